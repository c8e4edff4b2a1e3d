#version 330 core
// Which part and how far, for masks and depth pictures.

uniform mat4 clip_from_mesh;
uniform vec4 depth_from_mesh;

in vec3 in_position;

out float depth_mm;

void main() {
    gl_Position = clip_from_mesh * vec4(in_position, 1.0);
    depth_mm = dot(depth_from_mesh, vec4(in_position, 1.0));
}
