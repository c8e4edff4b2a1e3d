#version 330 core
// One glyph (or one panel) an instance, in pixels from the top-left corner of the picture.

uniform vec2 viewport_px;

in vec4 in_box_px;      // left, top, right, bottom; pixel edges, so the picture spans 0 .. width
in vec4 in_box_uv;
in vec4 in_colour;
in vec4 in_outline;     // rgb and alpha of the outline
in vec3 in_style;       // depth (ndc), pixels one unit of the distance field, corner radius (panel) or -1 (glyph)

out vec2 uv;
out vec2 from_centre_px;
flat out vec2 half_px;
flat out vec4 colour_in;
flat out vec4 outline_in;
flat out vec2 style;

void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    vec2 px = mix(in_box_px.xy, in_box_px.zw, corner);
    uv = mix(in_box_uv.xy, in_box_uv.zw, corner);
    half_px = 0.5 * (in_box_px.zw - in_box_px.xy);
    from_centre_px = (corner * 2.0 - 1.0) * half_px;
    colour_in = in_colour;
    outline_in = in_outline;
    style = in_style.yz;
    gl_Position = vec4(px.x / viewport_px.x * 2.0 - 1.0, 1.0 - px.y / viewport_px.y * 2.0, in_style.x, 1.0);
}
