#version 330 core
#include "common.glsl"

uniform sampler2D accumulated;
uniform sampler2D weighted;

out vec4 colour;

void main() {
    ivec2 p = ivec2(gl_FragCoord.xy);
    vec4 sum = texelFetch(accumulated, p, 0);
    float alpha = 1.0 - sum.a;
    if (alpha < 1e-4) discard;
    colour = vec4(display_from_linear(sum.rgb / max(texelFetch(weighted, p, 0).r, 1e-5)), alpha);
}
