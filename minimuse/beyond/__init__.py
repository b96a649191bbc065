"""What came after Muse, for chapter 14: a token critic, quantization without a codebook, styles."""
