#version 330 core
// Weighted blended order-independent transparency (McGuire & Bavoil 2013, eq. 10): one pass, no sorting.
#include "lighting.glsl"

uniform float opacity;
uniform float xray;         // 1: clear face-on, bright at the outline
uniform vec2 depth_range;   // nearest and farthest translucent depth, mm before the eye

layout(location = 0) out vec4 accumulated;  // rgb: sum of colour * alpha * weight; a: product of (1 - alpha)
layout(location = 1) out float weighted;    // sum of alpha * weight

void main() {
    vec3 v = toward_eye();
    vec3 n = facing_normal(v);
    float edge = 1.0 - abs(dot(n, v));
    float alpha = opacity;
    vec3 c = lit_colour(n, v, base_colour);
    if (xray > 0.5) {
        alpha = opacity * (0.07 + 0.88 * pow(edge, 2.6));
        c = mix(c, base_colour * (0.55 + 0.75 * edge), 0.75);
    } else {
        alpha = min(1.0, opacity * (1.0 + 0.9 * pow(edge, 3.0)));  // more matter is crossed at a grazing angle
    }
    float depth = clamp((-eye_position.z - depth_range.x) / max(depth_range.y - depth_range.x, 1e-3), 0.0, 1.0);
    float weight = 100.0 * pow(1.0 - 0.9 * depth, 4.0);
    accumulated = vec4(c * alpha * weight, alpha);
    weighted = alpha * weight;
}
