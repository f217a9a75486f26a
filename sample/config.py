"""Sizes and strengths of the sample's world."""

from dataclasses import dataclass

from sample.vocabulary import TOPICS


@dataclass(frozen=True)
class WorldConfig:
    """Shares and rates lie in 0..1; weights are the logit's, for features of about unit scale.

    Raises ValueError for sizes that make no world.
    """

    items: int = 2_000
    users: int = 3_000
    topics: int = 24
    """Four consecutive topics form a group of related ones."""
    topic_dim: int = 8
    """Dimensions of a topic's latent vector."""
    topic_spread: float = 0.8
    """Length of a topic's own part; its group's part has length 1."""

    train_slates: int = 24
    valid_slates: int = 1
    test_slates: int = 1
    slate: int = 2
    """Items shown to a user at once; the clicked ones enter the history after the slate."""

    zipf: float = 0.7
    """Popularity falls with its rank to this power."""
    cold_items: float = 0.1
    """Share of the items that appear from valid on only."""
    cold_targets: float = 0.17
    """Share of the valid and test targets that are cold."""

    empty_history: float = 0.04
    """Share of the users who start without a history."""
    history_median: float = 15.0
    history_sigma: float = 0.9
    """Lengths of the other histories at the start are log-normal: median, and sigma of the log."""
    history_longest: int = 90
    """Longest history at the start."""
    interest_sharpness: float = 6.0
    """How strongly a user prefers topics near the own interest; 0 makes all topics equal."""
    drift: float = 0.12
    """Share of noise that enters a user's interest between two events."""
    popular_candidates: float = 0.3
    interest_candidates: float = 0.3
    """Shares of the shown items drawn by popularity and by interest; the others are uniform."""

    match_window: int = 30
    """The last history items that count for a click."""
    match_decay: float = 0.98
    """Weight of a history item relative to the next younger one."""
    match_smoothing: float = 4.0
    """Neutral items added to each history, so that a short one counts for little."""

    bias: float = -3.6
    match_weight: float = 9.0
    """Of the match of target and history, 0..1."""
    grade_weight: float = 1.4
    """Of the quality that title and cover show, standardised."""
    appeal_weight: float = 1.5
    """Of the quality that no content shows."""
    popularity_weight: float = 0.3
    """Of the standardised log popularity."""

    misleading: float = 0.06
    """Share of the items with one false facet in the title, and as many in the cover."""
    missing_titles: float = 0.02
    missing_covers: float = 0.05
    tags: int = 60
    """Size of the tag vocabulary."""
    most_tags: int = 8
    """An item has 1 to this many tags."""
    tag_strength: float = 1.0
    """Log of how much likelier a tag of the own group is than another; 0 makes tags noise."""
    level_noise: float = 1.5
    """Standard deviation of the noise in `likes_level` and `views_level` before quantisation."""

    def __post_init__(self) -> None:
        if min(self.users, self.train_slates, self.valid_slates, self.test_slates, self.slate) < 1:
            raise ValueError("users, the slates of each split and slate must be 1 at least")
        if not 1 <= self.topics <= len(TOPICS):
            raise ValueError(f"topics must be 1 to {len(TOPICS)}, found {self.topics}")
        if self.items - self.cold_count < self.topics or not self.cold_count:
            raise ValueError(
                f"items must hold a cold one and, besides, one for each of {self.topics} topics, "
                f"found {self.items} with {self.cold_count} cold"
            )
        if self.tags < max(self.most_tags, self.groups):
            raise ValueError(f"tags must be most_tags and groups at least, found {self.tags}")
        if self.popular_candidates + self.interest_candidates > 1:
            raise ValueError(
                "popular_candidates and interest_candidates must not exceed 1 together"
            )

    @property
    def cold_count(self) -> int:
        return round(self.cold_items * self.items)

    @property
    def groups(self) -> int:
        return (self.topics + 3) // 4
