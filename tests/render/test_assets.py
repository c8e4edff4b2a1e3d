"""Everything in assets/ is in the manifest with its source, licence and checksum."""

import hashlib
import tomllib

from tests.data import ROOT


def test_fonts_have_a_source_a_licence_and_the_right_checksum() -> None:
    folder = ROOT / "assets"
    assets = {a["path"]: a for a in tomllib.loads((folder / "MANIFEST.toml").read_text(encoding="utf-8"))["asset"]}
    fonts = {str(path.relative_to(folder)) for path in (folder / "fonts").iterdir()}
    assert fonts <= set(assets)
    for path, asset in assets.items():
        assert asset["source"], path
        assert asset["licence"], path
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == asset["sha256"], path
        if "licence_text" in asset:
            assert (folder / asset["licence_text"]).is_file()
