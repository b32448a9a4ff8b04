//! What a run of the program ended with.

use std::process::Output;

use serde_json::Value;

/// The result of a run of the program.
pub struct Outcome {
    pub asked_json: bool,
    pub code: Option<i32>,
    pub json: Value,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: &Output) -> Self {
        Self {
            asked_json: false,
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts that the program succeeded.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Asserts that the program ended with `code` and an error with all of `words`.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let error = self.stderr.split("error: ").nth(1).unwrap_or_default();
        assert!(!error.contains("panicked"), "{error}");
        if self.asked_json {
            assert_eq!(self.json["exit"], code, "an error is a document too");
        }
        // No error of the chain may repeat the text of its source.
        let causes = self.json["causes"].as_array().cloned().unwrap_or_default();
        for (at, cause) in causes.iter().enumerate() {
            let cause = cause.as_str().unwrap();
            let repeated = causes[..at].iter().any(|earlier| earlier.as_str().unwrap().contains(cause));
            assert!(!repeated, "{cause:?} is said twice: {causes:?}");
        }
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {}", self.stderr);
        }
    }

    pub fn index(&self) -> String {
        self.json["index"]["digest"].as_str().unwrap().to_owned()
    }
}
