"""Published measures of the spine: pedicles, bodies, discs, canals and processes, C7 to L5.

Pedicle widths and angles of T10 to L5: CT means and SDs (764 pedicles, PMID 8087710; Cook and Baker 2021 for L5; Kaur
2016 for T12); T1 to T9, all heights and sagittal angles: Zindrick 1987 as commonly tabulated (T4 to T6 are too narrow
for any screw in most people). Bodies, discs, canals and processes: ordinary adult proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10")
UPPER = ("T9", "T8", "T7", "T6", "T5", "T4", "T3", "T2", "T1", "C7")


@dataclass(frozen=True)
class PedicleSize:
    """One level's pedicles: width and height, transverse (convergent +) and sagittal angle, with two SDs."""

    width_mm: float
    width_sd_mm: float
    height_mm: float
    transverse_deg: float
    transverse_sd_deg: float
    sagittal_deg: float


PEDICLES = {
    "C7": PedicleSize(6.6, 0.8, 7.4, 32.0, 3.0, -2.0),
    "T1": PedicleSize(7.9, 1.0, 9.9, 27.0, 2.5, 13.0),
    "T2": PedicleSize(7.0, 1.0, 12.0, 19.0, 2.5, 17.0),
    "T3": PedicleSize(5.6, 0.9, 12.4, 14.0, 2.0, 17.0),
    "T4": PedicleSize(4.7, 0.8, 12.1, 12.0, 2.0, 16.0),
    "T5": PedicleSize(4.5, 0.8, 11.9, 9.0, 2.0, 15.0),
    "T6": PedicleSize(5.2, 0.9, 12.2, 8.0, 2.0, 15.0),
    "T7": PedicleSize(5.3, 0.9, 12.1, 7.0, 2.0, 15.0),
    "T8": PedicleSize(5.9, 1.0, 12.5, 6.0, 1.5, 15.0),
    "T9": PedicleSize(6.1, 1.0, 13.9, 5.0, 1.5, 14.0),
    "T10": PedicleSize(6.3, 1.2, 14.9, 4.0, 1.5, 12.0),
    "T11": PedicleSize(7.8, 1.3, 16.4, 1.0, 1.5, 10.0),
    "T12": PedicleSize(8.3, 1.4, 15.8, 0.0, 2.0, 8.0),
    "L1": PedicleSize(8.7, 1.3, 15.4, 11.0, 2.5, 2.4),
    "L2": PedicleSize(8.5, 1.5, 15.0, 13.9, 3.0, 1.8),
    "L3": PedicleSize(9.2, 2.0, 14.9, 14.5, 3.0, 0.2),
    "L4": PedicleSize(11.9, 2.2, 14.8, 17.0, 3.5, 0.2),
    "L5": PedicleSize(16.1, 2.3, 14.0, 26.0, 4.5, -1.8),
}

# body width, depth, height; its wedge (deg, anterior taller +); disc below: height, wedge (deg); canal width, depth;
# transverse process span (half), lift; spinous process length, drop (deg), half height; facet half distance; all mm
TABLE = {
    "L5": (50.0, 35.5, 27.0, 9.0, 10.5, 14.0, 27.5, 16.0, 45.0, 5.0, 19.0, 8.0, 7.0, 22.0),
    "L4": (47.5, 35.0, 27.5, 3.0, 11.5, 12.0, 24.5, 15.5, 43.0, 5.0, 24.0, 6.0, 9.0, 18.5),
    "L3": (45.0, 34.5, 28.0, 1.0, 10.8, 9.0, 23.5, 15.5, 48.0, 1.5, 27.0, 4.0, 10.0, 16.0),
    "L2": (43.0, 34.0, 27.5, -1.0, 9.8, 7.0, 23.0, 16.0, 43.0, 1.0, 27.0, 5.0, 9.5, 14.0),
    "L1": (41.5, 33.0, 26.5, -2.0, 8.6, 5.0, 22.5, 16.5, 37.0, 0.5, 26.0, 8.0, 9.0, 13.0),
    "T12": (39.5, 32.0, 25.0, -3.0, 7.6, 2.0, 21.0, 16.5, 23.0, 2.0, 23.0, 14.0, 8.0, 12.5),
    "T11": (36.5, 31.0, 23.0, -4.0, 6.6, 0.0, 18.5, 16.0, 22.0, 4.0, 23.0, 26.0, 6.5, 12.0),
    "T10": (33.5, 30.0, 22.0, -4.0, 6.0, 0.0, 17.5, 15.5, 25.0, 5.0, 25.0, 38.0, 5.5, 11.0),
    "T9": (31.5, 29.0, 21.0, -4.0, 5.6, 0.0, 17.0, 15.5, 26.5, 5.0, 26.0, 44.0, 5.5, 11.0),
    "T8": (30.2, 28.0, 20.5, -4.5, 5.2, 0.0, 16.5, 15.5, 28.0, 5.0, 27.0, 50.0, 5.2, 10.8),
    "T7": (29.2, 27.0, 19.8, -4.5, 4.9, 0.0, 16.5, 15.5, 29.0, 5.0, 27.0, 53.0, 5.0, 10.6),
    "T6": (28.4, 26.0, 19.2, -4.5, 4.7, 0.0, 16.5, 15.5, 29.5, 5.0, 26.0, 53.0, 5.0, 10.6),
    "T5": (27.8, 24.5, 18.6, -4.0, 4.5, 0.0, 16.5, 15.5, 29.5, 5.0, 25.0, 49.0, 5.0, 10.6),
    "T4": (27.6, 23.0, 18.2, -3.5, 4.3, 0.0, 17.0, 15.5, 29.5, 5.0, 25.0, 44.0, 5.0, 10.8),
    "T3": (28.0, 21.0, 17.8, -3.0, 4.2, 0.0, 17.5, 15.5, 30.5, 5.0, 25.0, 39.0, 5.0, 11.2),
    "T2": (29.5, 19.5, 17.4, -2.5, 4.2, 0.0, 18.5, 15.5, 32.5, 5.0, 26.0, 33.0, 5.5, 12.0),
    "T1": (31.5, 18.0, 16.5, -1.5, 4.6, 0.0, 20.5, 15.5, 35.5, 4.0, 28.0, 26.0, 6.0, 13.5),
    "C7": (29.5, 17.0, 14.5, -0.5, 5.0, 1.0, 23.5, 15.0, 34.0, 2.0, 29.0, 20.0, 5.5, 16.0),
}
