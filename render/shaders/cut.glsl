// What a cut takes out: the convex room where all its planes are positive. Needs eye_position and is_parallel.

uniform vec4 cut_planes[8];  // in Eye: unit normal into the room, offset
uniform int cut_count;       // 0: nothing is cut
uniform float shows_taken;   // 1: draws what is taken; 0: the rest
uniform float has_samples;   // 1: the edge is spread over the pixel's samples

centroid in vec3 inner_position;

float cut_depth(vec3 place) {  // mm inside the room, by its nearest plane
    float inside = 1e30;
    for (int i = 0; i < cut_count; ++i) inside = min(inside, dot(cut_planes[i], vec4(place, 1.0)));
    return inside;
}

// How much of the pixel is on the side that is drawn.
float cut_cover() {
    if (cut_count == 0) return 1.0;
    // Where a surface turns away its slope is not to be trusted: a pixel is at most a few times its own width.
    float pixel_mm = clamp(fwidth(cut_depth(eye_position)), 1e-6, 3.0 * length(fwidth(eye_position.xy)) + 1e-6);
    float over = cut_depth(inner_position) / pixel_mm;
    if (shows_taken < 0.5) over = -over;
    return has_samples > 0.5 ? clamp(over + 0.5, 0.0, 1.0) : step(0.0, over);
}

// A far wall seen through the cut: the eye's ray has entered the solid where it left the room. The normal of the face
// there and the place; false where the ray does not come through the room.
bool cut_face(out vec3 place, out vec3 normal) {
    vec3 start = is_parallel > 0.5 ? eye_position + vec3(0.0, 0.0, 1e4) : vec3(0.0);
    vec3 way = eye_position - start;
    float enters = -1e30, leaves = 1e30;
    normal = vec3(0.0);
    for (int i = 0; i < cut_count; ++i) {
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
