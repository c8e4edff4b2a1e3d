#version 330 core
// The camera's picture, pixel for pixel: its row 0 is the top of the view.

uniform sampler2D picture;
uniform int height;

out vec4 colour;

void main() {
    ivec2 p = ivec2(gl_FragCoord.xy);
    colour = vec4(texelFetch(picture, ivec2(p.x, height - 1 - p.y), 0).rgb, 1.0);
}
