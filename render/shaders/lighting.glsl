// A key light from above the viewer's shoulder, a weak fill from the other side, sky and ground, one soft highlight.

uniform vec3 toward_key;
uniform float key_strength;
uniform vec3 sky;
uniform vec3 ground;
uniform vec3 base_colour;  // linear
uniform float shine;
uniform float metal;
uniform float is_parallel;

in vec3 eye_position;
in vec3 eye_normal;

vec3 toward_eye() {
    return mix(normalize(-eye_position), vec3(0.0, 0.0, 1.0), is_parallel);
}

vec3 facing_normal(vec3 v) {
    vec3 n = normalize(eye_normal);
    return gl_FrontFacing ? n : -n;
}

vec3 lit_colour(vec3 n, vec3 v, vec3 base) {
    vec3 ambient = mix(ground, sky, 0.5 + 0.5 * n.y);
    float key = max(0.0, (dot(n, toward_key) + 0.12) / 1.12) * key_strength;
    vec3 toward_fill = normalize(vec3(-toward_key.x * 1.6, -0.15, 0.55));
    float fill = max(0.0, dot(n, toward_fill)) * 0.22 * key_strength;
    vec3 h = normalize(toward_key + v);
    float n_h = max(0.0, dot(n, h));
    float n_v = max(0.0, dot(n, v));
    float fresnel = pow(1.0 - n_v, 5.0);
    float gloss = mix(28.0, 70.0, metal);
    float highlight = shine * (0.30 + 0.70 * fresnel) * pow(n_h, gloss) * step(0.0, dot(n, toward_key));
    vec3 highlight_colour = mix(vec3(1.0), base * 1.6, metal);
    // Metal mirrors its surroundings: a bright band where it faces the sky stands for them.
    float band = metal * (0.25 * smoothstep(0.1, 0.9, n.y) + 0.55 * pow(n_v, 6.0) + 0.35 * fresnel);
    vec3 diffuse = base * mix(1.0, 0.55, metal) * (ambient + vec3(1.0, 0.98, 0.94) * key + vec3(0.75, 0.85, 1.0) * fill);
    return diffuse + highlight_colour * highlight * key_strength * mix(1.0, 2.2, metal) + base * band * 0.6;
}
