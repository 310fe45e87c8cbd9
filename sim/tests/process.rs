//! A run is a function of its seed and options, in another process, too.

use std::process::Command;

fn run(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    // Only the speed differs.
    let trace = text.rsplit("trace ").next().expect("there is a trace");
    trace.trim().to_string()
}

#[test]
fn another_process_makes_the_same_runs() {
    let args = ["run", "--seeds", "0..40", "--ops", "120"];
    let first = run(&args);
    assert_eq!(first.len(), 16, "{first}");
    assert_eq!(first, run(&args));
    assert_ne!(first, run(&["run", "--seeds", "1..41", "--ops", "120"]));
}

#[test]
fn a_batch_that_meets_nothing_rare_fails_if_it_must() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    let output = command.args(["run", "--seeds", "0..1", "--ops", "5", "--probes"]).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("never met: bucket-full"));
}
