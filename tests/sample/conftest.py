import pytest

from sample.world import World, WorldConfig, build


@pytest.fixture(scope="session")
def world() -> World:
    """The world that `data.source: sample` stands for, large enough for statistics."""
    return build(WorldConfig(), seed=2025)


@pytest.fixture(scope="session")
def small_config() -> WorldConfig:
    return WorldConfig(
        items=60,
        users=40,
        topics=8,
        train_slates=5,
        valid_slates=2,
        history_median=40.0,
        history_longest=100,
    )


@pytest.fixture(scope="session")
def small_world(small_config: WorldConfig) -> World:
    return build(small_config, seed=3)
