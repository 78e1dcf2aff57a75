"""What the official conformance suite asks for beside the product's own: never in the wheel, served by the product's stack."""
