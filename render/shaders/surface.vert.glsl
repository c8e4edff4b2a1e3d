#version 330 core
// A surface: clip position from float64-composed matrices; the mesh is stored about its own centre.

uniform mat4 clip_from_mesh;
uniform mat4 eye_from_mesh;

in vec3 in_position;
in vec3 in_normal;

out vec3 eye_position;
out vec3 eye_normal;
centroid out vec3 inner_position;  // the same, but never beyond the triangle's edge

void main() {
    gl_Position = clip_from_mesh * vec4(in_position, 1.0);
    eye_position = (eye_from_mesh * vec4(in_position, 1.0)).xyz;
    inner_position = eye_position;
    eye_normal = mat3(eye_from_mesh) * in_normal;
}
