"""A world in which a rollout can go wrong in every way that is known, thousands of times a minute.

The ``Pipeline`` and the ``WorkerLoop`` that run here are the real ones, with the real rules, breaker, writer and
retries. What they stand on is not: time is virtual and jumps to the next moment at which something happens
(``loop``), and ledger, queue, channel and Cognito keep what was durably done and forget the rest (``stores``,
``truth``). In between lies a wire: what has left a process goes its way, whether or not the process lives to see the
answer (``ports``).

Every operation of a port is two *steps*: before it leaves, and when it is durable with its reply not yet seen. They
are counted over the whole run, so "kill at step 17" is exact and can be repeated. At a step a process may be killed
(its loop never runs again), paused (its loop does not run for a while), or told to stop (``scenario``).

The truth is Cognito's list of issued secrets. ``invariants`` compare it with what the worker believes, after every
event and at rest. What is found prints the scenario and a timeline. To look at one again::

    python -m tests.simulation --seed 123

More of them than in CI: ``pytest tests/simulation --simulation-scenarios 20000``.
"""

from __future__ import annotations

import heapq
import random
import traceback
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from tests.simulation import invariants, recovery
from tests.simulation.history import Event, Exit, Violation
from tests.simulation.process import Process
from tests.simulation.scenario import EPOCH, Disturbance, Message, Operation, Scenario, Wrong
from tests.simulation.stores import ChannelStore, LedgerStore, MarkStore, QueueStore, Users
from tests.simulation.truth import CognitoClient
from tests.simulation.turns import Turns
from worker.core import settled
from worker.core.errors import PersonMustAct, RowDamaged
from worker.core.model import NEVER, NOT_ACTIVATED, CredentialKind, Request, Secret, State

RESTORE_TAKES = 60.0
"""Seconds until somebody has restored the ledger: longer than anything stays on the wire."""
RESTART = 1.0
"""Seconds after which a process that died or stopped is started again."""
STAGGER = 0.7
REMEMBERED_EXACTLY = 2
"""Settled requests of a user that are not in the filter: few, so that many scenarios need the filter."""
USUAL_LIFE = 10_000.0
"""Seconds that the credential of a message lives, where nothing else is said; of a password: it does not expire."""
MAX_STEPS, MAX_PROCESSES = 60_000, 100


class World:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.dice = random.Random(scenario.seed)
        self.users = Users()
        self.ledger = LedgerStore(self)
        self.mark = MarkStore()
        self.was_restored = False
        self.harmed: set[str] = set()
        """Users of whom something in the ledger was not what was written."""
        self._is_down = False
        self._is_to_be_recovered = False
        """Somebody is stopping all workers, because a row is damaged."""
        self.queue = QueueStore(self)
        self.channel = ChannelStore(self)
        self.cognito = CognitoClient(self)
        self.always_wrong = dict.fromkeys(scenario.refused, Wrong.FORBIDDEN)
        self.always_wrong |= dict.fromkeys(scenario.throttled, Wrong.THROTTLED)
        """What goes wrong with every call of these users."""
        self.processes: list[Process] = []
        self.steps = 0
        self.turns = Turns(self)
        self.quiet_since = 0.0
        """When something was last done to the rollout from outside."""
        self.story: list[tuple[float, str, str]] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._event_number = 0
        for username in scenario.throttled:
            self.after(120.0, lambda username=username: self.always_wrong.pop(username, None))  # type: ignore[misc]
        self._disturbances = {disturbance.step: disturbance for disturbance in scenario.disturbances}
        self._counts: Counter[Operation] = Counter()
        self._violations: list[Violation] = []
        self._requests = 0
        self._living: list[Process] = []
        self.requests: dict[str, Request] = {}
        """Every request that was ever made, by its id."""
        self.replacing: set[str | None] = set()
        """The ids of the requests that ask for a replacement."""

    # --- what everybody uses ------------------------------------------------------------------------------------------

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        self._event_number += 1
        heapq.heappush(self._events, (self.now + seconds, self._event_number, event))

    def latency(self) -> float:
        """Seconds for one way of an operation."""
        return self.dice.choice((0.0, 0.001, 0.004, 0.02, 0.1))

    def tell(self, who: str, what: str) -> None:
        self.story.append((self.now, who, what))

    def complain(self, what: str) -> None:
        """A bug that is not about users: an exception that nobody caught."""
        self._violations.append(Violation(f"a bug: {what}"))

    def happened(self, event: Event) -> None:
        judge = invariants.judge if not self.was_restored else invariants.judge_after_restore
        try:
            judge(self, event)
        except Violation as violation:
            self._violations.append(violation)

    def process(self, name: str) -> Process:
        return self.processes[int(name.removeprefix("w"))]

    def wrong(self, operation: Operation) -> Wrong | None:
        """What goes wrong with the next operation of this name."""
        self._counts[operation] += 1
        number = self._counts[operation]
        for fault in self.scenario.faults:
            if fault.operation == operation and fault.first <= number < fault.first + fault.count:
                self.disturbed()
                return fault.wrong
        return None

    def disturbed(self) -> None:
        self.quiet_since = self.now
        self.turns.used()

    # --- disturbances -------------------------------------------------------------------------------------------------

    def step(self, process: Process, what: str) -> None:
        self.steps += 1
        self.tell(process.name, f"[{self.steps}] {what}")
        if disturbance := self._disturbances.get(self.steps):
            self._disturb(process, disturbance)

    def _disturb(self, process: Process, disturbance: Disturbance) -> None:
        self.disturbed()
        match disturbance.what:
            case "kill":
                self.kill(process)
            case "pause":
                self.pause(process, disturbance.seconds)
            case "restore":
                self.restore(disturbance.back)
            case "damage":
                self.damage()
            case "rot":
                self.rot()
            case "stop" | "hurry":
                self.tell(process.name, f"*** told to {disturbance.what}")
                process.interrupt()
                if disturbance.what == "hurry":
                    process.interrupt()
        if disturbance.purge:
            self.tell("queue", "*** every message is deleted")
            self.queue.purge()

    def kill(self, process: Process) -> None:
        self.tell(process.name, "*** killed")
        process.killed = True
        self._is_dead(process)
        self.after(RESTART, self.spawn)

    def damage(self) -> None:
        """Everybody dies, and what is sealed in the ledger is not what was written."""
        self.tell("ledger", "*** what is sealed in it is damaged")
        self._kill_everybody()
        for username, row in self.ledger.rows.items():
            if row.sealed is not None and row.sealed.blob:
                self.harmed.add(username)
                damaged = row.sealed._replace(blob=b"?" + row.sealed.blob[1:])
                self.ledger.rows[username] = row._replace(sealed=damaged)
        self.after(RESTART, self.spawn)

    def rot(self) -> None:
        """A row is not what was written; whoever begins next, once nobody works, recovers the ledger first."""
        if not self.ledger.rows:
            return
        username = self.dice.choice(sorted(self.ledger.rows))
        self.tell("ledger", f"*** the row of {username} is damaged")
        self.harmed.add(username)
        self.ledger.damaged.add(username)

    def _kill_everybody(self) -> None:
        for process in self._living:
            process.killed = True
            self._is_dead(process)

    def restore(self, back: int) -> None:
        """Everybody dies; a minute later the ledger is an older copy of itself, is recovered, and work goes on."""
        self.tell("ledger", f"*** lost; the copy lacks {back} commits")
        self._is_down = True
        self._kill_everybody()

        def restored() -> None:
            self.tell("ledger", "*** restored")
            self.was_restored, self._is_down = True, False
            number = max(0, len(self.ledger.copies) - 1 - back)
            self.ledger.rows = dict(self.ledger.copies[number])
            self.ledger.number = number
            recovery.recover(self)
            self.spawn()

        self.after(RESTORE_TAKES, restored)

    def pause(self, process: Process, seconds: float) -> None:
        self.tell(process.name, f"*** paused for {seconds} s")
        process.running = False
        process.stopped_at = self.now
        process.pauses += 1

        def resume() -> None:
            if not process.is_dead:
                self.tell(process.name, "*** goes on")
                self.disturbed()
                process.running = True

        self.after(seconds, resume)

    def _is_dead(self, process: Process) -> None:
        self.disturbed()
        process.running, process.is_dead, process.stopped_at = False, True, self.now
        self._living = [other for other in self._living if other is not process]
        for call in self.cognito.open_calls:
            if call.process is process:
                self.cognito.give_up(call)

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """To rest. Raises ``Violation``."""
        state, config, newest = random.getstate(), structlog.get_config(), settled.NEWEST
        settled.NEWEST = REMEMBERED_EXACTLY
        random.seed(self.scenario.seed)
        structlog.configure(processors=[self._logged], cache_logger_on_first_use=False)
        try:
            self._run()
        finally:
            settled.NEWEST = newest
            random.setstate(state)
            structlog.configure(**config)
            for process in self.processes:
                process.loop.abandon()

    def _run(self) -> None:
        for number, message in enumerate(self.scenario.messages):
            self._produce(message, f"r{number}")
        for number in range(self.scenario.workers):
            self.after(number * STAGGER, self.spawn)
        self._finish()
        for _ in range(self.scenario.rounds):
            if self._sign_in_again():
                self._finish()
        if self.was_restored:
            invariants.judge_at_rest_after_restore(self)
        else:
            invariants.judge_at_rest(self)

    def _produce(self, message: Message, id_: str) -> None:
        kind = self._kind(message)
        credential = f"{kind}-{id_}"
        lives_on = kind is CredentialKind.PASSWORD and message.life >= USUAL_LIFE
        request = Request(
            username=message.user,
            kind=kind,
            credential=Secret(credential),
            id=id_,
            expires_at=NEVER if lives_on else EPOCH + message.life,
            replace=message.replace,
        )
        self._requests += 1
        self.requests[id_] = request
        if message.replace:
            self.replacing.add(id_)
        self.cognito.grant(request, NEVER if kind is CredentialKind.PASSWORD else message.life)
        for _ in range(message.copies):
            self.after(message.arrives, lambda: self.push(request, again=message.again))

    def _kind(self, message: Message) -> CredentialKind:
        if message.signs_in:
            assert self.scenario.flow != "none"
            return CredentialKind.TICKET if self.scenario.flow == "custom_auth" else CredentialKind.PASSWORD
        assert message.user not in self.scenario.enrolled, "whose factor is active brings nothing that sets up another"
        return CredentialKind.ACCESS_TOKEN if message.token else CredentialKind.SESSION

    def push(self, request: Request, *, again: float | None = None) -> None:
        self.quiet_since = self.now
        self.tell("queue", f"{request.id} for {request.username} arrives")
        self.queue.push(request, again=again)
        if self.processes and not self._alive():
            self.after(RESTART, self.spawn)

    def _sign_in_again(self) -> bool:
        """New credentials for those who need them; whether anybody does."""
        wanting = [
            row.username
            for row in self.ledger.rows.values()
            if row.state in (State.NEEDS_SESSION, State.FAILED) or row.reason in NOT_ACTIVATED
        ]
        for number, user in enumerate(wanting):
            signs_in = self.scenario.flow != "none" and (number % 3 < 2 or self._has_a_factor(user))
            message = Message(user, token=number % 2 == 0, life=self.now + USUAL_LIFE, signs_in=signs_in)
            self._produce(message, f"r{self._requests}")
        return bool(wanting)

    def _has_a_factor(self, username: str) -> bool:
        """Then nobody gets a Session for the user by hand that sets up another."""
        return self.cognito.accounts[username].verified is not None

    def spawn(self) -> None:
        if self._is_down:
            return
        if self._is_to_be_recovered and self._living:
            self.after(RESTART, self.spawn)
            return
        if self.ledger.damaged and not self._living:
            self.was_restored, self._is_to_be_recovered = True, False
            recovery.recover_damaged(self)
        invariants.no_false_alarm(self)
        number = len(self.processes)
        skews = self.scenario.skews
        self.tell(f"w{number}", "starts")
        self.disturbed()
        process = Process(self, f"w{number}", skews[number % len(skews)])
        self.processes.append(process)
        self._living = [*self._living, process]

    def _alive(self) -> list[Process]:
        return self._living

    def _finish(self) -> None:
        """Until nothing is left that anybody could do; what a late write or message leaves is one more run's work."""
        self._drive()
        while self.queue.messages or self.ledger.damaged or any(row.is_unfinished for row in self.ledger.rows.values()):
            self.spawn()
            self._drive()

    def _drive(self) -> None:
        """Until nobody runs and nothing more will happen; a process that stopped early is started again."""
        while True:
            self._run_processes()
            self._raise()
            moments = [self._events[0][0]] if self._events else []
            running = [process.loop.next_moment() for process in self._alive() if process.running]
            moments += [moment for moment in running if moment is not None]
            if not moments:
                return
            moment = max(self.now, min(moments))
            self.turns.pass_until(moment)
            self.now = moment
            invariants.in_bounded_time(self)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()

    def _run_processes(self) -> None:
        for process in self._alive():
            if process.running and process.loop.run(process.may_run):
                self._raise()
                if process.main.done() and not process.is_dead:
                    self._ended(process)

    def _ended(self, process: Process) -> None:
        error, reason = process.main.exception(), process.shutdown.reason
        if error is not None:
            raise Violation(f"a bug: the loop itself broke: {error!r}")
        self._is_dead(process)
        self.tell(process.name, f"ends: {reason!r}" if reason else "ends: nothing is left to do")
        if reason is None:
            self.happened(Exit(self.now, process))
        else:
            if isinstance(reason, PersonMustAct) and self.always_wrong:
                self.tell("cognito", "*** the cause is mended: nobody is refused any more")
                self.always_wrong.clear()
                self.disturbed()
            if isinstance(reason, RowDamaged):
                self._is_to_be_recovered = True
                for other in self._living:
                    other.interrupt()
            self.after(RESTART, self.spawn)

    def _raise(self) -> None:
        if self._violations:
            raise self._violations[0]
        if self.steps > MAX_STEPS or len(self.processes) > MAX_PROCESSES:
            raise Violation("11: no end in sight")

    def _logged(self, _: object, __: str, event: MutableMapping[str, Any]) -> Any:
        if event.get("event") == "bug":
            self.complain(traceback.format_exc())
        raise structlog.DropEvent
