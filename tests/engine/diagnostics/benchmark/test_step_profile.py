from engine.diagnostics.benchmark import step
from engine.diagnostics.benchmark.step_profile import seconds_of_kinds
from engine.terminal import Terminal
from tests.engine.diagnostics.benchmark.test_denoise import tables


def test_operations_are_counted_by_their_kind(cpu, tf):
    product = tf.function(lambda a: tf.nn.relu(tf.matmul(a, a)) + tf.cumsum(a))
    a = tf.ones((200, 200))
    product(a)
    found = seconds_of_kinds(lambda: [product(a).numpy() for _ in range(3)])
    assert any("MatMul" in kind for kind in found)
    assert found["Cumsum"] > 0
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_profile_of_a_step_shows_its_convolutions_and_adds_up(cpu, monkeypatch, capsys):
    monkeypatch.setattr(step, "_SMALL", ("crop.shape=4,16,16", "network.width=2", "batch=1"))
    step.profile(2, Terminal())
    (table,) = tables(capsys.readouterr().out)
    assert table.pop("operation of the step") == ["ms", "share"]
    assert any("Conv3DBackpropFilter" in kind for kind in table)
    assert abs(sum(float(share.removesuffix("%")) for _, share in table.values()) - 100) < 2
