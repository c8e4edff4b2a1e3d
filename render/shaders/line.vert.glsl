#version 330 core
// A segment as a screen-space quad, half a pixel wider all round for the soft edge.

uniform vec2 viewport_px;

in vec4 in_start;   // clip coordinates, already before the near plane
in vec4 in_stop;
in vec4 in_colour;
in float in_width_px;

flat out vec2 start_px;
flat out vec2 stop_px;
flat out float radius_px;
flat out vec4 colour_in;

void main() {
    start_px = (in_start.xy / in_start.w * 0.5 + 0.5) * viewport_px;
    stop_px = (in_stop.xy / in_stop.w * 0.5 + 0.5) * viewport_px;
    radius_px = 0.5 * in_width_px;
    colour_in = in_colour;
    vec2 along = stop_px - start_px;
    float length_px = length(along);
    along = length_px > 1e-4 ? along / length_px : vec2(1.0, 0.0);
    vec2 across = vec2(-along.y, along.x);
    float reach = radius_px + 1.0;
    bool at_stop = gl_VertexID >= 2;
    float side = (gl_VertexID & 1) == 0 ? -1.0 : 1.0;
    vec2 px = (at_stop ? stop_px + along * reach : start_px - along * reach) + across * side * reach;
    // Depth is straight along a straight line in the picture; beyond its ends it goes on at the same slope.
    float start_z = in_start.z / in_start.w;
    float stop_z = in_stop.z / in_stop.w;
    float beyond = (stop_z - start_z) / max(length_px, 1.0) * reach;
    gl_Position = vec4(px / viewport_px * 2.0 - 1.0, at_stop ? stop_z + beyond : start_z - beyond, 1.0);
}
