"""What an agent does for all of them while it leads, put together over its ports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rota.agent.adopter import Adopter
from rota.agent.answering import Answers
from rota.agent.bot import Bot
from rota.agent.clouds import Clouds
from rota.agent.definitions import Follower
from rota.agent.duties import Duty
from rota.agent.following import Followers
from rota.agent.lookout import Lookout
from rota.agent.loop import Loop
from rota.agent.mover import Mover
from rota.agent.notifier import Notifier
from rota.agent.poller import Poller
from rota.agent.ports import Ports
from rota.agent.reactor import Reactor
from rota.agent.statuses import Statuses
from rota.agent.tracer import Tracer
from rota.core.join_token import JoinToken
from rota.core.polling import polls
from rota.core.user_data import cluster_tag
from rota.errors import UnavailableError
from rota.ports.chat import Chat
from rota.ports.checkout import Checkout
from rota.ports.clouds import Providers
from rota.ports.collector import Collector
from rota.ports.forges import Forges
from rota.service.build_cases import is_flaky
from rota.service.context import Principal, Service
from rota.service.linking import link
from rota.service.logs import last_words
from rota.service.reactions import events_for
from rota.service.verbs import Role


class Leading:
    """The duties of whoever leads. Each hears all the time of what is folded, so as to be ready.

    What an agent has no port for is left away.

    Args:
        service: The agent's.
        ports: The agent's.
        loop: Tells what is folded, and seals nothing of which the consequences are not settled.
        follower: Tells of new definitions.
        mover: Moves `main`, for what is adopted.
        socket: Where the bot's process asks for users.
        fence: Returns the election by which this agent leads; 0 if it does not.
        leads: Says whether it leads.
    """

    def __init__(
        self,
        service: Service,
        ports: Ports,
        loop: Loop,
        follower: Follower,
        mover: Mover,
        *,
        socket: str,
        fence: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        self._service, self._ports, self._world = service, ports, service.world
        self._loop, self._follower = loop, follower
        self._fence, self._leads = fence, leads
        #: What is run while this agent leads.
        self.duties: list[Duty] = []
        self._reactor = self._reacting()
        self._lookout: Lookout | None = None
        if ports.forges is not None:
            self._tell_forges(ports.forges)
        if ports.collector is not None:
            self._trace(ports.collector)
        if ports.clouds is not None:
            self._launch(ports.clouds)
        if ports.chat is not None:
            chat = ports.chat(
                settings=lambda: self._world.definitions.settings,
                read_secret=self._secret,
                admitted=service.speakers.admitted,
                socket=socket,
            )
            self._talk(chat)
            self._lookout = self._notify(chat)
        if ports.checkout is not None:
            self._poll(ports.checkout)
            self._adopt(ports.checkout, mover)
        loop.settled = self._settled

    async def begin(self) -> None:
        """Work out the consequences of what was folded while nobody was told; once, before it is live."""
        await self._reactor.begin()
        if self._lookout is not None:
            self._lookout.begin()

    def _settled(self) -> int:
        """Return up to where all that happened has had its consequences."""
        if self._lookout is None:
            return self._reactor.settled
        return min(self._reactor.settled, self._lookout.settled)

    async def _secret(self, name: str) -> bytes:
        return await self._service.read_secret(name)

    def _base(self) -> str:
        """Return what links to this cluster begin with."""
        return self._world.definitions.settings.url or self._service.me.url

    def _reacting(self) -> Reactor:
        reactor = Reactor(
            world=self._world,
            journal=self._ports.journal,
            store=self._ports.store,
            plan=partial(events_for, self._service),
            advanced=self._loop.decide_soon,
        )
        reactor.fence = self._fence
        self._loop.on_change.append(reactor.folded)
        self._follower.told.append(reactor.followed)
        self.duties.append(reactor.run)
        return reactor

    def _tell_forges(self, forges: Forges) -> None:
        statuses = Statuses(
            name=self._service.me.name,
            world=self._world,
            journal=self._ports.journal,
            clock=self._ports.clock,
            forges=forges,
            base=self._base,
        )
        statuses.fence = self._fence
        self._loop.on_change.append(statuses.folded)
        self.duties.append(statuses.run)

    def _trace(self, collector: Collector) -> None:
        tracer = Tracer(
            world=self._world,
            collector=collector,
            clock=self._ports.clock,
            counts=self._service.counts,
            read_secret=self._secret,
            version=self._service.me.version,
        )
        self._loop.on_change.append(tracer.folded)
        self.duties.append(tracer.run)

    def _launch(self, providers: Providers) -> None:
        service = self._service

        async def token(machine: str) -> JoinToken:
            if service.door is None:
                raise UnavailableError("this agent lets nobody join yet")
            return await service.door.machine_token(machine)

        clouds = Clouds(
            name=service.me.name,
            world=self._world,
            journal=self._ports.journal,
            clock=self._ports.clock,
            providers=providers,
            cluster=lambda: cluster_tag(service.ca),
            token=token,
            read=self._secret,
            version=service.me.version,
        )
        clouds.fence, clouds.leads = self._fence, self._leads
        self._loop.on_change.append(clouds.folded)
        self._follower.told.append(clouds.changed)
        self.duties.append(clouds.run)

    def _talk(self, chat: Chat) -> None:
        name, world, ports = self._service.me.name, self._world, self._ports

        async def linked(network: str, who: str, nick: str, code: str) -> str:
            said = await link(
                self._service, code, network=network, who=who, nick=nick, fence=self._fence()
            )
            return said.text

        followers = Followers(
            name=name,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            clock=ports.clock,
            chat=chat,
            tail=partial(last_words, self._service),
        )
        answers = Answers(
            name=name,
            world=world,
            journal=ports.journal,
            clock=ports.clock,
            chat=chat,
            followers=followers,
            link=linked,
        )
        bot = Bot(
            name=name,
            world=world,
            clock=ports.clock,
            chat=chat,
            answers=answers,
            followers=followers,
        )
        bot.fence = self._fence
        self._loop.on_change.append(bot.folded)
        self._follower.told.append(bot.changed)
        self.duties.append(bot.run)

    def _notify(self, chat: Chat) -> Lookout:
        """Have somebody find out whom to tell, and somebody tell them."""
        service, ports = self._service, self._ports
        lookout = Lookout(
            name=service.me.name,
            world=self._world,
            journal=ports.journal,
            clock=ports.clock,
            advanced=self._loop.decide_soon,
            is_flaky=partial(is_flaky, service, Principal("rota", Role.ADMIN)),
        )
        notifier = Notifier(
            name=service.me.name,
            world=self._world,
            journal=ports.journal,
            clock=ports.clock,
            chat=chat,
            tail=partial(last_words, service),
            base=self._base,
            audience=lambda: lookout.audience,
        )
        lookout.fence = notifier.fence = self._fence
        self._loop.on_change += (lookout.folded, notifier.folded)
        self.duties += (lookout.run, notifier.run)
        return lookout

    def _poll(self, checkout: Checkout) -> None:
        poller = Poller(
            name=self._service.me.name,
            world=self._world,
            journal=self._ports.journal,
            clock=self._ports.clock,
            checkout=checkout,
            wanted=lambda: polls(self._world.definitions),
        )
        self._follower.told.append(poller.changed)
        self.duties.append(poller.run)

    def _adopt(self, checkout: Checkout, mover: Mover) -> None:
        adopter = Adopter(
            name=self._service.me.name,
            world=self._world,
            store=self._ports.store,
            main=mover,
            journal=self._ports.journal,
            clock=self._ports.clock,
            checkout=checkout,
            plan=partial(events_for, self._service),
        )
        self._loop.on_change.append(adopter.folded)
        self._follower.told.append(adopter.changed)
        self.duties.append(adopter.run)
