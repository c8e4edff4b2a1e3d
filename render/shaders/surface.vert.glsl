#version 330 core
// A surface: clip position from float64-composed matrices; the mesh is stored about its own centre.

uniform mat4 clip_from_mesh;
uniform mat4 eye_from_mesh;

in vec3 in_position;
in vec3 in_normal;

out vec3 eye_position;
out vec3 eye_normal;

void main() {
    gl_Position = clip_from_mesh * vec4(in_position, 1.0);
    eye_position = (eye_from_mesh * vec4(in_position, 1.0)).xyz;
    eye_normal = mat3(eye_from_mesh) * in_normal;
}
