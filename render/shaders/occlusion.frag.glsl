#version 330 core
// How open each pixel's surroundings are (screen-space ambient occlusion): crevices and contacts darken.

uniform sampler2D depth;
uniform mat4 eye_from_ndc;
uniform vec2 viewport_px;
uniform float radius_mm;
uniform vec2 px_per_mm;  // x / depth + y

out float openness;

const int TAPS = 16;

vec3 eye_at(ivec2 p) {
    p = clamp(p, ivec2(0), ivec2(viewport_px) - 1);
    vec3 ndc = vec3((vec2(p) + 0.5) / viewport_px, texelFetch(depth, p, 0).r) * 2.0 - 1.0;
    vec4 e = eye_from_ndc * vec4(ndc, 1.0);
    return e.xyz / e.w;
}

vec3 shorter(vec3 a, vec3 b) {
    return abs(a.z) < abs(b.z) ? a : b;
}

void main() {
    ivec2 p = ivec2(gl_FragCoord.xy);
    openness = 1.0;
    if (texelFetch(depth, p, 0).r >= 1.0) return;
    vec3 c = eye_at(p);
    vec3 dx = shorter(eye_at(p + ivec2(1, 0)) - c, c - eye_at(p - ivec2(1, 0)));
    vec3 dy = shorter(eye_at(p + ivec2(0, 1)) - c, c - eye_at(p - ivec2(0, 1)));
    vec3 n = normalize(cross(dx, dy));
    float radius_px = clamp(radius_mm * (px_per_mm.x / max(-c.z, 1e-3) + px_per_mm.y), 3.0, 110.0);
    float turn = 6.2831853 * fract(52.9829189 * fract(dot(vec2(p), vec2(0.06711056, 0.00583715))));
    float sum = 0.0;
    for (int i = 0; i < TAPS; ++i) {
        float angle = float(i) * 2.3999632 + turn;
        float r = radius_px * sqrt((float(i) + 0.5) / float(TAPS));
        vec3 v = eye_at(p + ivec2(round(r * vec2(cos(angle), sin(angle))))) - c;
        float d = length(v) + 1e-4;
        float fade = max(0.0, 1.0 - d * d / (2.2 * radius_mm * radius_mm));
        sum += max(0.0, dot(n, v) / d - 0.12) * fade;
    }
    openness = clamp(1.0 - 3.0 * sum / float(TAPS), 0.0, 1.0);
}
