"""What several processes counted, as one."""

from __future__ import annotations

from taxiway.telemetry.adding import Totals
from taxiway.telemetry.catalogue import REQUEST_S
from taxiway.telemetry.histogram import Distribution, Exemplar
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import decode_points, encode_points


def test_of_exemplars_the_newest_of_each_bucket_is_told() -> None:
    def counted(*exemplars: Exemplar) -> Point:
        return Point(REQUEST_S, ("m", "1"), Distribution(("1.0",), (1, 1), 3.0, None, exemplars))

    old, new, other = Exemplar(0, "a", 0.5, 1.0), Exemplar(0, "b", 0.6, 2.0), Exemplar(1, "c", 2.0, 0.5)
    for one, two in ((counted(old), counted(new, other)), (counted(other, new), counted(old))):
        totals = Totals()
        totals.add(decode_points(encode_points([one])))
        totals.add([two])
        (told,) = totals.points()
        assert isinstance(told.value, Distribution)
        assert told.value.exemplars == (new, other)
