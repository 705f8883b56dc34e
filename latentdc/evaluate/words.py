# moved  # noqa: D100
from latentdc.cli import split_words as split_words
from latentdc.evaluate.loading import changes_for as changes_for
from latentdc.evaluate.loading import check_names as check_names
from latentdc.evaluate.loading import protocol_words as protocol_words
