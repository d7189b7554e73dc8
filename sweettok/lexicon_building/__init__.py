"""Building a lexicon: from WordNet, captions, a parser and a text encoder to the artifact.

Using a lexicon needs none of this. Words come from `wordnet`, their usage from
`caption_statistics`, the choice is made in `word_selection`, embeddings come from `text_encoders`,
and `assembly` puts the artifact together. The parser and the text encoders are optional packages:
the extra `lexicon`.
"""
