"""A study of what people think of pictures: blinded, on a local page, analysed by rater."""
