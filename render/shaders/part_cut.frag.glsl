#version 330 core

uniform float part;
uniform float is_solid;
uniform float is_parallel;

in vec3 eye_position;

#include "cut.glsl"

layout(location = 0) out vec2 part_and_depth;  // as in part.frag; the depth of the cut face where that is seen

void main() {
    vec3 place = eye_position;
    if (is_solid > 0.5 && !gl_FrontFacing) {
        vec3 normal;
        if (!cut_face(place, normal)) discard;
    }
    part_and_depth = vec2(part, -place.z);
}
