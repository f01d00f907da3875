"""The words of the page: what is seen in a figure, how it was measured, and what it does not show."""

from collections.abc import Mapping
from typing import Any

NEGLIGIBLE = 0.005
"""Mean change of Dice below which a skip is not said to have an effect, however narrow the interval."""
MATTERS, HELPS, NOTHING, UNSURE = "costs", "gains", "nothing", "unsure"

NETWORK = (
    "The network as a U. Each bar is a skip, as thick as the Dice that is lost when what it hands to the decoder is "
    "replaced by zeros; the number is the change of Dice over the cases, with its 95 % interval in brackets. e are "
    "the encoder's features, u the decoder's upsampled ones, level 1 is full resolution."
)
DROPS = (
    "Each dot is one case: the Dice it loses when the skip is zeroed, or taken from another case (shuffled). The "
    "short line is the mean, the upright one its 95 % interval. A mean that rests on a few dots is a finding about "
    "those cases."
)
SIMILARITY = (
    "How alike the two features are that a level joins: linear CKA of the decoder's feature u with the encoder's e "
    "(the semantic gap that the skip has to bridge) and with what the skip hands over (what is left of the gap). 1 "
    "means the same up to rotation and scale, 0 unrelated. With identity skips both are the same by construction."
)
CHANNELS = (
    "Blue: how much each channel of the skip puts out, the strongest first, beside the strongest. Orange, for DRA: "
    "at which share of places its gate is open. A dead channel is 0 at every place of every case: the decoder never "
    "hears of it. Channels for 90 % says how few carry nearly everything."
)
CHANGES = (
    "Left: the image with the reference, then the prediction. Then the prediction when a skip is zeroed: red is "
    "what it loses against the intact network, yellow what it gains. Numbers are for the whole case."
)
ATTENTION = (
    "Green outline: the tokens that ask, {chosen}. Colour: how much they take from each place, on average; bright "
    "is much, and each panel has a scale of its own. <em>On the object</em> is the share of attention that stays "
    "within the outline; the area is what it would be if attention made no choice. Columns are the levels whose "
    "tokens ask; over the tokens of all scales at a place is summed."
)
MAPS = (
    "Rows are channels that take, columns channels whose value is taken; 1 (white) is an even choice, orange more, "
    "violet less. Mean over the cases; rows and columns are sorted, in CFA within each scale (the lines part them), so "
    "that structure shows: an orange stripe at the left of a block is a channel that many listen to, an even block one "
    "whose channels make no choice. The maps as they are lie in maps.npz."
)
METHOD = (
    "<p><strong>Zeroing</strong> replaces what one skip hands to the decoder by zeros, in the trained network, "
    "without training anything again. It shows what <em>this</em> network relies on. It does not show what a "
    "network without that skip would reach: it would learn to do without. A large drop is therefore no proof that "
    "the skip is needed, only a training without it is; and zeros are something that the decoder has never seen, so "
    "a part of the drop is surprise.</p>"
    "<p><strong>Shuffling</strong> gives the decoder what the same skip puts out for another case: numbers of the "
    "usual size and spread, but of the wrong image. {donors} What is lost is what the decoder reads about "
    "<em>this</em> image. Zeroing that costs much where shuffling costs little speaks for a missing offset, not for "
    "missing information; a decoder that believes a skip is led astray by a wrong one, so shuffling can cost more "
    "than zeroing.</p>"
    "<p><strong>Levels</strong> are changed one at a time; <em>all</em> changes them together. Drops of single "
    "levels do not add up to it, because levels stand in for each other.</p>"
    "<p><strong>Intervals</strong> are 95 % bootstrap intervals that resample groups (patients), since cases of one "
    "group are not independent; below six groups there is none. A mean change of less than 0.005 is read as none, "
    "however narrow its interval. They tell how sure the mean over such cases is for "
    "this one network; another seed of training would give another network.</p>"
    "<p><strong>CKA</strong> is the linear centred kernel alignment with the unbiased estimator of HSIC, over all "
    "places of a case; given are the mean over cases and the value over all cases together. It compares what "
    "features <em>can</em> tell apart, not what is used of them, and a small value is not a fault in itself: two "
    "features that say the same need no joining.</p>"
    "<p><strong>Attention</strong> is recomputed from the same projections as in the forward pass. It tells where "
    "values come from, not how much they matter: a value that is taken can be small, or be ignored later.</p>"
)
DONORS_OTHER = "The other case is always of another group."
DONORS_ANY = "The other case can be of the same group."
COLUMNS = {
    "encoder": "encoder e and decoder u",
    "skip": "skip's output and decoder u",
}


def verdict(row: Mapping[str, Any] | None) -> str:
    """Whether a change costs Dice, gains some, shows nothing worth speaking of, or is not known well enough."""
    if row is None or row["drop_low"] is None:
        return UNSURE
    if abs(row["drop"]) < NEGLIGIBLE:
        return NOTHING
    return MATTERS if row["drop_low"] > 0 else HELPS if row["drop_high"] < 0 else NOTHING


def reading(zeroed: Mapping[str, Any] | None, shuffled: Mapping[str, Any] | None) -> str:
    """What both changes of one level say together."""
    first, second = verdict(zeroed), verdict(shuffled)
    if UNSURE in (first, second):
        return "too few groups for a conclusion"
    if first == MATTERS:
        return (
            "the decoder relies on what it says about the image"
            if second == MATTERS
            else "something must be there; that it be of this image was not shown to matter"
        )
    if second == MATTERS:
        return "it can be missing, but a wrong one leads astray"
    return "without it the network is better" if first == HELPS else "no effect shown"
