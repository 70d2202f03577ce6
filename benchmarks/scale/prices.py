"""What machines and requests cost, where that was read, and when. They change: give your own with --price."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A machine that can be hired. Prices in dollars of the United States an hour."""

    name: str
    cores: int
    price: float
    spot: float
    """What it costs if it may be taken away: the middle of the region's zones."""
    link: float
    """Bytes a second of its network, as its maker says."""
    sources: tuple[str, ...]
    read: str


@dataclass(frozen=True)
class Requests:
    """What an object store takes, in dollars."""

    puts: float
    """For one that writes or lists."""
    gets: float
    month: float
    """For a gigabyte and month."""
    sources: tuple[str, ...]
    read: str


MACHINE = Machine(
    "c7a.8xlarge, us-east-1, Linux",
    32,
    1.64224,
    0.6826,
    12.5e9 / 8,
    (
        "https://github.com/skypilot-org/skypilot-catalog (catalogs/v8/aws/vms.csv at 00148f2)",
        "https://aws.amazon.com/ec2/pricing/on-demand/",
    ),
    "2026-11-26",
)
STORE = Requests(
    0.005 / 1000,
    0.0004 / 1000,
    0.023,
    (
        "https://devnotes.tech/understanding-aws-s3-pricing-a-complete-cost-breakdown-with-examples",
        "https://aws.amazon.com/s3/pricing/",
    ),
    "2026-11-26",
)
