"""Building a lexicon: from captions, WordNet, a parser and a text encoder to the artifact.

Using a lexicon needs none of this. Texts become counts (`caption_parsers`, `caption_statistics`),
counts and the dictionary (`wordnet`) become candidates (`word_sources`), the choice is made in
`word_selection`, embeddings come from `text_encoders`, and `assembly` puts the artifact together;
`inspection` and `coverage` look at what came out. The parser and the text encoders are optional
packages: the extra `lexicon`.
"""
