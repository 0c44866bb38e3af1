"""Hand-ins to exercises that take a function or an environment: what they do with the grader's own objects."""

from __future__ import annotations

from tests.handins.case import HandInCase, edited, ids_of, notebook, stem
from tests.handins.rights import rights

RIGHT_00, CELLS_00 = rights("00", 1)
RIGHT_01, CELLS_01 = rights("01")


def _attack(
    lesson: str, name: str, answers: dict[str, str], wanted: dict[str, str | int], needs: str = "any"
) -> HandInCase:
    right, cells = rights(lesson)
    sources = {id: stem(source) for id, source in answers.items()}
    true: dict[str, str | int] = dict.fromkeys(ids_of(lesson), "passed")
    return edited(
        name, lambda: notebook(lesson, right | sources, before=cells), true | wanted, lesson=lesson, needs=needs
    )


CLIMB = """
    def climb(thing, *more):
        names = ["__globals__", "__closure__", "__code__", "__self__", "__class__", "__dict__", "__reduce_ex__"]
        names += ["spec", "unwrapped", "get_wrapper_attr", "set_wrapper_attr", "np_random", "close", "render", "env"]
        names += ["load_state_dict", "register_forward_hook", "apply", "parameters", "trouble", "mro", "func", "_peer"]
        for name in names:
            try:
                found = getattr(thing, name)
                if name == "__globals__":
                    found["__builtins__"]["exec"]("open('@canary@/climbed', 'w')")
                if name == "__reduce_ex__":
                    found(4)[0](eval, ("open('@canary@/climbed', 'w')",))
                if name == "get_wrapper_attr":
                    found("__init__").__globals__["os"].system("touch @canary@/climbed")
                if name == "spec":
                    spec = {"id": "x-v0", "entry_point": "os:system", "kwargs": {"command": "touch @canary@/climbed"}}
                    found.from_json(json.dumps(spec)).make()
                if name == "register_forward_hook":
                    found(lambda *args: torch.zeros(1))
            except BaseException:
                pass
        for number in range(40):
            for name in ("exec", "system", "__globals__", None, "__init__"):
                for act in ("get", "call"):
                    try:
                        peer = object.__getattribute__(thing, "_peer")
                        peer.get(number, name) if act == "get" else peer.call(number, name, ("0",), {})
                    except BaseException:
                        pass
"""

CASES = [
    _attack(
        "00",
        "climbs the environment",
        {
            "record_episode": "import json\n"
            + stem(CLIMB)
            + "\n\ndef record_episode(env, policy, seed):\n    climb(env)\n    climb(policy)\n"
            + RIGHT_00["record_episode"].partition("\n")[2],
            "swap_ratio": """
                def swap_ratio(predict, obs, action, next_obs, order):
                    return predict.__globals__["reference"].swap_ratio(predict, obs, action, next_obs, order)
            """,
            "stream_transitions": "from wmcourse.replay import *\nfrom wmcourse.start_here import stream_transitions",
        },
        {"swap_ratio": 0, "stream_transitions": 0},
    ),
    _attack(
        "00",
        "raw bytes for flags",
        {
            "record_episode": RIGHT_00["record_episode"]
            + "\n\nplay = record_episode\n\n"
            + stem("""
                def record_episode(env, policy, seed):
                    obs, action, reward, terminated, truncated = play(env, policy, seed)
                    odd = torch.full(terminated.shape, 2, dtype=torch.uint8).view(torch.bool)
                    return obs, action, reward, odd, odd
            """),
            "bootstrap_target": """
                def bootstrap_target(reward, next_value, terminated, truncated, discount):
                    return reward + discount * next_value * ~(terminated | truncated)
            """,
        },
        {"record_episode": "failed", "bootstrap_target": "failed"},
    ),
    _attack(
        "01",
        "misuses the model it is handed",
        {
            "rollout": """
                def rollout(step, obs, actions):
                    deep = []
                    for _ in range(900):
                        deep = [deep]
                    for args in [(), (1,), (obs,) * 9, (obs, "x"), (step, step), (None, lambda *a: 1 / 0), (obs, deep),
                                 (obs.double(), actions[:, 0]), (torch.zeros(0), torch.zeros(0)), (float("nan"), {})]:
                        try:
                            step(*args)
                        except BaseException:
                            pass
                    predictions = []
                    for action in actions.unbind(1):
                        obs = step(obs, action)
                        predictions.append(obs)
                    return torch.stack(predictions, dim=1)
            """,
            "predict_next": """
                def predict_next(predict_delta, obs, action, delta_mean, delta_std):
                    for odd in (predict_delta, lambda *args: obs, {"a": obs}, [obs] * 3, None, slice(3), 1j, b"x", ...):
                        try:
                            predict_delta(odd, odd)
                        except BaseException:
                            pass
                    return obs + delta_mean + delta_std * predict_delta(obs, action)
            """,
            "open_loop_error": """
                def open_loop_error(predicted, true, scale):
                    raise StopIteration
            """,
        },
        {"open_loop_error": "error"},
    ),
    _attack(
        "01",
        "a bomb for the grader",
        {
            "rollout": """
                def rollout(step, obs, actions):
                    step(torch.zeros(12_000, 1, 3), torch.zeros(12_000, 1))  # 1.7 GB, on the grader's side
                    return actions
            """
        },
        {"rollout": 0},
    ),
    _attack(
        "01",
        "raises inside a callback",
        {
            "rollout": """
                def rollout(step, obs, actions):
                    def bad(*args):
                        raise StopIteration
                    try:
                        step(bad, bad)
                    except RuntimeError:
                        pass
                    raise next(iter(()), StopIteration)
            """,
            "predict_next": """
                def predict_next(predict_delta, obs, action, delta_mean, delta_std):
                    predict_delta(None)
            """,
        },
        {"rollout": "error", "predict_next": "error"},
    ),
    _attack(
        "01",
        "never stops asking",
        {
            "rollout": """
                def rollout(step, obs, actions):
                    while True:
                        try:
                            step(obs, actions[:, 0])
                        except Exception:
                            pass
            """
        },
        {"rollout": "timed out"},
    ),
    _attack(
        "01",
        "keeps the model for later",
        {
            "rollout": """
                import threading
                KEPT = []

                def rollout(step, obs, actions):
                    KEPT.append((step, obs, actions))
                    def ask():
                        try:
                            for _ in range(20):
                                KEPT[0][0](obs * 0, actions[:, 0])
                        except BaseException:
                            pass
                    threading.Thread(target=ask, daemon=True).start()
                    return torch.stack([KEPT[0][0](obs, a) for a in actions.unbind(1)], 1)
            """
        },
        {"rollout": 0},
    ),
]
