"""Each controller speaks to users under its own name: `kubectl describe` shows who said what."""

from machinery.client.interface import Client
from machinery.controller.action import Emit
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controller.recorder import EventRecorder


class SpeakingExecutor(Executor):
    """An executor that also takes an Emit at once, for words about a write whose answer is needed first."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        super().__init__(client, recorder)
        self.recorder = recorder

    def emit(self, event: Emit) -> None:
        """Have the Event written."""
        self.recorder.emit(event)


def executor_for(manager: Manager, component: str) -> SpeakingExecutor:
    """An executor whose Events come from `component`; its recorder runs with the manager's controllers."""
    recorder = EventRecorder(manager.client, manager.clock, manager.ids, component=component)
    manager.runnable(f"{component}-events", recorder.run)
    return SpeakingExecutor(manager.client, recorder)
