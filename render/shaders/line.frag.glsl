#version 330 core
// Round caps and an edge one pixel soft, by the distance to the segment.

flat in vec2 start_px;
flat in vec2 stop_px;
flat in float radius_px;
flat in vec4 colour_in;

out vec4 colour;

void main() {
    vec2 p = gl_FragCoord.xy - start_px;
    vec2 d = stop_px - start_px;
    float t = clamp(dot(p, d) / max(dot(d, d), 1e-8), 0.0, 1.0);
    float cover = clamp(radius_px + 0.5 - length(p - t * d), 0.0, 1.0);
    if (cover <= 0.0) discard;
    colour = vec4(colour_in.rgb, colour_in.a * cover);
}
