#version 330 core
// A solid that a cut is taken out of: its far walls, seen through the cut, are drawn as the cut face before them.
#include "common.glsl"
#include "lighting.glsl"
#include "cut.glsl"

uniform float is_solid;     // 1: closed, so a far wall is never seen but through the cut
uniform vec3 face_colour;   // linear

out vec4 colour;

void main() {
    vec3 v = toward_eye();
    vec3 n = facing_normal(v);
    vec3 base = base_colour;
    if (is_solid > 0.5 && !gl_FrontFacing) {
        vec3 place;
        if (!cut_face(place, n)) discard;
        base = face_colour;
    }
    colour = vec4(display_from_linear(lit_colour(n, v, base)), 1.0);
}
