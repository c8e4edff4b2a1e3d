#version 330 core
#include "common.glsl"
#include "lighting.glsl"

out vec4 colour;

void main() {
    vec3 v = toward_eye();
    colour = vec4(display_from_linear(lit_colour(facing_normal(v), v, base_colour)), 1.0);
}
