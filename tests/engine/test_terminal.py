import sys
import time

from engine.runs.metrics_file import MetricsFile
from engine.terminal import Terminal, table_text


def said(capfd, terminal):
    terminal.say("said")
    terminal.warn("warned")
    terminal.result("result")
    return capfd.readouterr()


def test_results_go_to_stdout_and_the_rest_to_stderr(capfd):
    out, err = said(capfd, Terminal())
    assert out == "result\n"
    assert err == "said\nengine: warning: warned\n"


def test_quiet_silences_all_but_results_and_warnings(capfd):
    out, err = said(capfd, Terminal(quiet=True))
    assert out == "result\n"
    assert err == "engine: warning: warned\n"


def test_a_long_line_stays_one_line(capfd):
    Terminal().say("a/long/path/" * 40)
    assert capfd.readouterr().err == "a/long/path/" * 40 + "\n"


def test_brackets_in_a_name_are_shown_as_they_are(capfd):
    Terminal().say("scan[bold] of case [1]")
    assert capfd.readouterr().err == "scan[bold] of case [1]\n"


def test_a_table_in_a_pipe_is_whole(capfd):
    columns = ["", "PSNR (dB)", "SSIM"]
    Terminal().table("test case", columns, [["noisy", "20.00", "0.2"], ["a" * 60, "40.00", "0.9"]])
    out, err = capfd.readouterr()
    assert err == ""
    for cell in ("test case", *columns, "noisy", "20.00", "a" * 60, "0.9"):
        assert cell in out


def test_a_table_as_text_is_that_of_a_pipe(capfd):
    words = "test case", ["method", "PSNR"], [["noisy", "20.00"], ["a" * 60, "40.00"]]
    Terminal().table(*words)
    printed = capfd.readouterr().out.splitlines()
    assert table_text(*words) == "\n".join(line.rstrip() for line in printed)


def test_results_are_left_to_who_returns_them(capfd):
    Terminal(results=False).result("a path")
    assert capfd.readouterr() == ("", "")


def test_progress_is_hidden_if_stderr_is_not_a_terminal(capfd):
    with Terminal().progress("training", 10) as bar:
        for done in range(11):
            bar.at(done, "loss 0.1")
    assert capfd.readouterr() == ("", "")


def pretend_terminal(monkeypatch):
    """Makes stderr a terminal in name."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")


def test_a_terminal_shows_the_progress(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    with Terminal().progress("training", 10, 3) as bar:
        bar.at(10, "loss 0.1")
    err = capfd.readouterr().err
    assert "training" in err
    assert "10/10" in err


def test_the_progress_of_a_part_has_a_bar_of_its_own_and_both_tell_their_rate(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    with Terminal().progress("all scans", 100, unit="slices") as whole:
        whole.at(10, "scan 1 of 4")
        with whole.part("a.nii.gz", 20) as part:
            part.at(5)
            time.sleep(0.25)
            part.at(20)
            time.sleep(0.25)
            whole.at(100, "scan 4 of 4")
    err = capfd.readouterr().err
    for words in ("all scans", "scan 4 of 4", "100/100", "a.nii.gz", "20/20", "slices/s"):
        assert words in err


def test_results_in_a_pipe_stay_there_while_a_terminal_shows_the_progress(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    terminal = Terminal()
    with terminal.progress("denoising", 10) as bar:
        bar.at(10)
        terminal.result("out/a_denoised.nii.gz")
    out, err = capfd.readouterr()
    assert out == "out/a_denoised.nii.gz\n"
    assert "out/a_denoised" not in err


def test_a_quiet_terminal_shows_no_progress(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    with Terminal(quiet=True).progress("training", 10) as bar:
        bar.at(10)
    assert capfd.readouterr().err == ""


def test_details_are_for_the_verbose(capfd):
    Terminal().detail("a detail")
    assert capfd.readouterr().err == ""
    Terminal(verbose=True).detail("a detail")
    assert capfd.readouterr().err == "a detail\n"


def test_missing_rows_are_reported(tmp_path):
    path, messages = tmp_path / "metrics.jsonl", []
    MetricsFile(path, 20, messages.append).close()
    assert messages == [f"{path}: is gone, and with it the rows up to step 20"]
    MetricsFile(path.with_name("new.jsonl"), -1, messages.append).close()
    assert len(messages) == 1
