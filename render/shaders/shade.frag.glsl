#version 330 core
// Smooths the openness over neighbours at the same depth and darkens the picture by it.

uniform sampler2D openness;
uniform sampler2D depth;
uniform float strength;

out vec4 colour;

void main() {
    ivec2 p = ivec2(gl_FragCoord.xy);
    float z = texelFetch(depth, p, 0).r;
    if (z >= 1.0) discard;
    ivec2 last = textureSize(depth, 0) - 1;
    float sum = 0.0;
    float total = 0.0;
    float slope = max(fwidth(z), 1e-6) * 4.0;
    for (int y = -2; y <= 2; ++y)
        for (int x = -2; x <= 2; ++x) {
            ivec2 q = clamp(p + ivec2(x, y), ivec2(0), last);
            float w = exp(-abs(texelFetch(depth, q, 0).r - z) / slope);
            sum += w * texelFetch(openness, q, 0).r;
            total += w;
        }
    float open = sum / total;
    // Light that comes out of a crevice has met bone twice: it is warmer.
    colour = vec4(mix(vec3(1.0), pow(vec3(open), vec3(0.95, 1.08, 1.2)), strength), 1.0);
}
