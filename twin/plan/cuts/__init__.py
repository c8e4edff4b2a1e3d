"""Osteotomies: planes and motion, the pieces, what they do to each other, blocks for print."""
