#version 330 core
// A quiet vertical gradient; the ordered dither keeps 8 bits from banding.

uniform vec3 bottom;
uniform vec3 top;

in vec2 uv;
out vec4 colour;

void main() {
    ivec2 p = ivec2(gl_FragCoord.xy) & 3;
    int bayer[16] = int[16](0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5);
    float dither = (float(bayer[p.y * 4 + p.x]) + 0.5) / 16.0 - 0.5;
    float flat_colour = float(bottom == top);
    colour = vec4(mix(bottom, top, smoothstep(0.0, 1.0, uv.y)) + (1.0 - flat_colour) * dither / 255.0, 1.0);
}
