// The face of a cut that takes out a convex room, where all its planes are positive. Needs eye_position, is_parallel.

uniform vec4 cut_planes[8];  // in Eye: unit normal into the room, offset; fewer are repeated

// A far wall seen through the cut: the eye's ray has entered the solid where it left the room. The normal of the face
// there and the place; false where the ray does not come through the room.
bool cut_face(out vec3 place, out vec3 normal) {
    vec3 start = is_parallel > 0.5 ? eye_position + vec3(0.0, 0.0, 1e4) : vec3(0.0);
    vec3 way = eye_position - start;
    float enters = -1e30, leaves = 1e30;
    normal = vec3(0.0);
    for (int i = 0; i < 8; ++i) {
        float first = dot(cut_planes[i], vec4(start, 1.0));
        float change = dot(cut_planes[i].xyz, way);
        if (change == 0.0 && first <= 0.0) return false;
        float share = -first / change;
        if (change > 0.0) enters = max(enters, share);
        if (change < 0.0 && share < leaves) {
            leaves = share;
            normal = cut_planes[i].xyz;
        }
    }
    place = start + leaves * way;
    return enters < leaves && leaves > 0.0 && leaves <= 1.0;
}
