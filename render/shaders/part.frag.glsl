#version 330 core

uniform float part;

in float depth_mm;

layout(location = 0) out vec2 part_and_depth;  // part counts from 1; 0 is none

void main() {
    part_and_depth = vec2(part, depth_mm);
}
