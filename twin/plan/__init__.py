"""Screws, osteotomies and their consequences."""
