"""Which route offers which capability now, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar, cast

from .capabilities import CAPABILITIES, Capability, Driver
from .conversation import TextGeneration
from .errors import CapabilityUnavailable, InvalidArgument, NotFound
from .routes import Limits
from .selectors import Selector, select

C = TypeVar("C", bound=Capability)
# Text has a row, but no switch: it is none of the capabilities that the runtime view and routes.toml name.
KINDS: Final[tuple[type[Capability], ...]] = (*CAPABILITIES, TextGeneration)
JUDGED_BY: Final = {"multimodal_input": "text"}  # a flag without models of its own
SHOWN: Final = 5
NO_CAPS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Backend(Generic[C]):
    """One route's live offer of one capability: `models` in the order they are tried, the first by default."""

    route_id: str
    provider: str
    driver: C
    models: tuple[str, ...]
    limits: Limits = NO_CAPS

    @property
    def model(self) -> str:
        """The model that a call without a model gets."""
        return self.models[0]


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a route does not offer a capability, and what to do about it."""

    route_id: str
    reason: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What one route brings to the catalog: its driver, or the one reason why nothing of it can be used.

    `flags` are the capabilities that routes.toml switches, `models` those that it names per flag, and as `text` the
    route's default model. `seen_at` is the epoch time at which its provider listed its models, None where it never did;
    `warning` what is wrong with a route that can be used all the same. `declared` says that its server does only what
    the route switches on or names a model for.
    """

    route_id: str
    driver_name: str
    driver: Driver | None
    absence: Absence | None = None
    provider: str = ""
    base_url: str | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: Limits = NO_CAPS
    seen_at: float | None = None
    warning: str | None = None
    declared: bool = False


Cell = Backend[Capability] | Absence


class Catalog:
    """The table of backends and absences: capability by route, in the order in which routes are tried.

    Immutable: what changes (a slot, routes.toml) builds a new one. `trouble` is the reason of every absence when there
    are no routes at all.
    """

    def __init__(self, offers: Iterable[Offer], *, trouble: str | None = None) -> None:
        self.offers = tuple(offers)
        self.trouble = trouble
        self.routes: Mapping[str, str] = {offer.route_id: offer.driver_name for offer in self.offers}
        self._rows = {kind: tuple(_cell(kind, offer) for offer in self.offers) for kind in KINDS}

    def row(self, kind: type[Capability]) -> tuple[Cell, ...]:
        """Every route's cell for a capability, in order."""
        return self._rows[kind]

    def backends(self, kind: type[C]) -> tuple[Backend[C], ...]:
        """The routes that offer `kind` now, in the order in which they are tried."""
        return tuple(cast("Backend[C]", cell) for cell in self._rows[kind] if isinstance(cell, Backend))

    def offers_any(self, kind: type[Capability]) -> bool:
        """Whether any route offers `kind` now."""
        return any(isinstance(cell, Backend) for cell in self._rows[kind])

    def why_not(self, kind: type[Capability]) -> str:
        """One sentence: no route does it, and each route's reason."""
        reasons = "; ".join(f"{cell.route_id}: {cell.reason}" for cell in self._rows[kind] if isinstance(cell, Absence))
        return f"No route {kind.phrase} ({self.trouble or reasons or 'there are no routes'})."

    def backend(self, kind: type[C], chosen: Selector) -> Backend[C]:
        """The backend for a choice; refuses with the reasons of the row.

        A model without a route goes to the first route that names it, else to the first backend whose driver takes
        models by any name.
        """
        if chosen.route_id is not None:
            return _with_model(kind, self._on_route(kind, chosen.route_id), chosen.model)
        backends = self.backends(kind)
        if not backends:
            raise CapabilityUnavailable(self.why_not(kind), hint=self._fix(kind))
        if chosen.model is None:
            return backends[0]
        return _with_model(kind, _likeliest(kind, backends, chosen.model), chosen.model)

    def candidates(
        self, kind: type[C], *, provider: str | None = None, model: str | None = None
    ) -> tuple[Backend[C], ...]:
        """Where a call is tried in order, one model each: first what `backend` gives, with its refusals.

        A model that was named stands alone. Else the models follow that the route names for the capability, and, where
        no route was named either, the other routes that offer it; but no call comes to a route that stands in for none
        (local), and none goes on from there to where it would cost. InvalidArgument where `provider`, a route id, and
        `model`, a selector, contradict each other.
        """
        return self.tried(kind, select(model, provider, self.routes))

    def tried(self, kind: type[C], chosen: Selector) -> tuple[Backend[C], ...]:
        """The same for a choice that is settled."""
        first = self.backend(kind, chosen)
        if chosen.model is not None:
            return (replace(first, models=(first.model,)),)
        others = [other for other in self.backends(kind) if other.route_id != first.route_id]
        standing = [each for each in (first, *others) if cast("Driver", each.driver).stands_in]
        tried = standing if chosen.route_id is None and first in standing else [first]
        return tuple(replace(each, models=(model,)) for each in tried for model in self._tried(kind, each))

    def _tried(self, kind: type[C], backend: Backend[C]) -> tuple[str, ...]:
        """The models of a route that are tried: those that it names; the driver's own preference is one choice."""
        offer = next(offer for offer in self.offers if offer.route_id == backend.route_id)
        return backend.models if offer.models.get(kind.flag) else backend.models[:1]

    def _on_route(self, kind: type[C], route_id: str) -> Backend[C]:
        for cell in self._rows[kind]:
            if cell.route_id == route_id:
                if isinstance(cell, Absence):
                    others = ", ".join(backend.route_id for backend in self.backends(kind))
                    hint = cell.fix or (f"Routes that can: {others}." if others else None)
                    raise CapabilityUnavailable(f"Route {route_id}: {cell.reason}.", hint=hint)
                return cast("Backend[C]", cell)
        raise NotFound(f"There is no route {route_id!r}.", hint=f"Known routes: {', '.join(self.routes) or 'none'}.")

    def _fix(self, kind: type[Capability]) -> str | None:
        fixes = [cell.fix for cell in self._rows[kind] if isinstance(cell, Absence) and cell.fix]
        return fixes[0] if fixes else "`kheish-daemon runtime get` shows every route and what it lacks."


def _cell(kind: type[Capability], offer: Offer) -> Cell:
    """One cell, by the same questions for all: usable, declared, switched on, installed, and which models."""
    driver = offer.driver
    if driver is None:
        return offer.absence or Absence(offer.route_id, "the route cannot be used")
    if not isinstance(driver, kind):
        return Absence(offer.route_id, f"its driver {offer.driver_name} does not do this")
    if not offer.flags.get(kind.flag, True):
        return Absence(offer.route_id, f"{kind.flag} is switched off in routes.toml")
    if offer.declared and not offer.flags.get(kind.flag) and kind.flag not in offer.models:
        return Absence(offer.route_id, f"routes.toml does not say that its server does this ({kind.flag} = true would)")
    missing = driver.missing(kind)
    if missing is not None:
        return Absence(offer.route_id, *missing)
    unable = _unable(kind, offer, driver)
    return unable or Backend(offer.route_id, driver.provider, driver, _models(kind, offer, driver), offer.limits)


def _models(kind: type[Capability], offer: Offer, driver: Driver) -> tuple[str, ...]:
    """The models in the order they are tried: those that the route names, else of the driver's own those that exist.

    A model that is known not to do it is left out; where nothing is known, all are tried.
    """
    named = offer.models.get(kind.flag)
    if named:
        return tuple(model for model in named if driver.can(kind.flag, model) is not False)
    own = driver.preferred.get(kind.flag, ("",))
    return tuple(model for model in own if driver.can(kind.flag, model)) or own


def _unable(kind: type[Capability], offer: Offer, driver: Driver) -> Absence | None:
    """The absence where every model that the route names for it is known not to do it."""
    named = offer.models.get(JUDGED_BY.get(kind.flag, kind.flag), ())
    if not named or any(driver.can(kind.flag, model) is not False for model in named):
        return None
    verb = "does not do" if len(named) == 1 else "do not do"
    reason = f"{', '.join(named)} {verb} this by the provider's own list"
    able = () if kind.flag in JUDGED_BY else able_models(driver, kind.flag)
    return Absence(offer.route_id, reason, f"name another model in routes.toml, such as {able[0]}" if able else None)


def able_models(driver: Driver, flag: str) -> tuple[str, ...]:
    """The ids of the models that a driver knows to have a capability."""
    return tuple(card.id for card in driver.models() if flag in card.capabilities)


def _likeliest(kind: type[C], backends: tuple[Backend[C], ...], model: str) -> Backend[C]:
    """The backend for a model that was named without a route; a driver with models of its own knows only those."""
    naming = [backend for backend in backends if model in backend.models]
    knowing = [backend for backend in backends if cast("Driver", backend.driver).can(kind.flag, model)]
    open_ended = [backend for backend in backends if cast("Driver", backend.driver).takes_any_model]
    return (naming or knowing or open_ended or list(backends))[0]


def _with_model(kind: type[C], backend: Backend[C], model: str | None) -> Backend[C]:
    """The backend with the model of a call; refuses one that is known not to do it, and names some that do."""
    if model is None:
        return backend
    driver = cast("Driver", backend.driver)
    able = able_models(driver, kind.flag)
    if not driver.takes_any_model and driver.card(model) is None:
        raise InvalidArgument(
            f"Route {backend.route_id} has no model {model!r}.", hint=f"Its models: {', '.join(sorted(able))}."
        )
    if driver.can(kind.flag, model) is False:
        first = dict.fromkeys((*(known for known in backend.models if known in able), *able))
        raise InvalidArgument(
            f"{model} on route {backend.route_id} is not a model that {kind.phrase}.",
            hint=f"Models that can: {', '.join(list(first)[:SHOWN]) or 'none is known'}. list_models shows them all.",
        )
    return replace(backend, models=(model,))
