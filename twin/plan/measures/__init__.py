"""What is measured of spine and legs, before and after a plan, each with its spread."""
