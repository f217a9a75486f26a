from benchmarks.gpu.machine import installed, machine


def test_the_machine_is_told_with_what_it_reaches() -> None:
    found = machine(small=True)
    assert found["torch"] not in ("", "not installed")
    assert found["fp32_tflop_per_s"] > 0
    assert found["copied_gb_per_s"] > 0
    assert installed("no-such-package") == "not installed"
