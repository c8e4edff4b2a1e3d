#version 330 core
// A glyph from its distance field, with an outline; or a panel with round corners.

uniform sampler2D glyphs;

in vec2 uv;
in vec2 from_centre_px;
flat in vec2 half_px;
flat in vec4 colour_in;
flat in vec4 outline_in;
flat in vec2 style;

out vec4 colour;

void main() {
    if (style.y >= 0.0) {
        vec2 q = abs(from_centre_px) - half_px + style.y;
        float outside_px = length(max(q, 0.0)) + min(max(q.x, q.y), 0.0) - style.y;
        colour = vec4(colour_in.rgb, colour_in.a * clamp(0.5 - outside_px, 0.0, 1.0));
        return;
    }
    float inside_px = (texture(glyphs, uv).r - 0.5) * style.x;
    float body = clamp(inside_px + 0.5, 0.0, 1.0);
    float outline_px = clamp(style.x * 0.16, 1.2, 3.0);
    float halo = outline_in.a * clamp(inside_px + outline_px + 0.5, 0.0, 1.0);
    float alpha = max(body * colour_in.a, halo);
    if (alpha < 0.004) discard;
    colour = vec4(mix(outline_in.rgb, colour_in.rgb, body), alpha);
}
