#version 330 core
// A surface of which a cut takes a convex room. The rest of a convex room is no convex one, so it is drawn in cells:
// the first plane's far side; its near side beyond the second plane; and so on.

uniform mat4 clip_from_mesh;
uniform mat4 eye_from_mesh;
uniform vec4 cut_planes[8];  // in Eye: unit normal into the room, offset
uniform float cut_sides[8];  // of this cell: 1 within a plane, -1 beyond it, 0 either

const float SEAM_MM = 1e-3;  // neighbouring cells overlap by this, so that no gap shows between them

in vec3 in_position;
in vec3 in_normal;

out vec3 eye_position;
out vec3 eye_normal;
out float gl_ClipDistance[8];

void main() {
    gl_Position = clip_from_mesh * vec4(in_position, 1.0);
    eye_position = (eye_from_mesh * vec4(in_position, 1.0)).xyz;
    eye_normal = mat3(eye_from_mesh) * in_normal;
    for (int i = 0; i < 8; ++i)
        gl_ClipDistance[i] = cut_sides[i] * dot(cut_planes[i], vec4(eye_position, 1.0)) + max(cut_sides[i], 0.0) * SEAM_MM;
}
