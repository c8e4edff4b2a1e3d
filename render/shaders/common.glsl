// Shared by the fragment shaders: colour is linear light until it is written.

vec3 display_from_linear(vec3 c) {  // IEC 61966-2-1
    c = clamp(c, 0.0, 1.0);
    return mix(12.92 * c, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}
