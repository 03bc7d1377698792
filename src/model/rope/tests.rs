//! Frequencies at their ends, and the forms in which a method is said.
use super::*;
use crate::model::config::Json;
use serde_json::Value;

fn spec(toml: &str) -> RopeSpec {
    toml::from_str(toml).unwrap()
}

#[test]
fn methods_at_their_ends() -> Result<()> {
    let plain = Rope::plain(10_000.0).inv_freq(64, 512)?;
    let linear = spec("scaling = 'linear'\nfactor = 4")
        .resolve(1e4)?
        .inv_freq(64, 512)?;
    assert!((linear[5] * 4.0 - plain[5]).abs() < 1e-7);
    // NTK-aware keeps the fastest and stretches the slowest frequency by the whole factor.
    let ntk = spec("scaling = 'ntk'\nfactor = 4")
        .resolve(1e4)?
        .inv_freq(64, 512)?;
    assert_eq!(ntk[0], plain[0]);
    assert!((ntk[31] * 4.0 / plain[31] - 1.0).abs() < 1e-5);
    let yarn = spec("scaling = 'yarn'\nfactor = 4\noriginal_context = 512").resolve(1e4)?;
    let w = yarn.inv_freq(64, 2048)?;
    assert_eq!(w[0], plain[0]);
    assert!((w[31] * 4.0 / plain[31] - 1.0).abs() < 1e-6);
    assert!((yarn.scale() - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
    let dynamic = spec("scaling = 'dynamic'\nfactor = 2\noriginal_context = 512").resolve(1e4)?;
    assert_eq!(dynamic.inv_freq(64, 100)?, plain);
    assert_ne!(dynamic.inv_freq(64, 1024)?, plain);
    Ok(())
}

#[test]
fn a_missing_parameter_is_named() {
    for (toml, word) in [
        ("scaling = 'yarn'\nfactor = 4", "original_context"),
        ("scaling = 'linear'", "factor"),
        (
            "scaling = 'llama3'\nfactor = 8\noriginal_context = 9",
            "low_freq_factor",
        ),
        ("scaling = 'yarm'", "yarn"),
        ("factor = 4", "scaling"),
        ("base = -1.0", "base"),
    ] {
        let error = spec(toml).resolve(1e4).unwrap_err().to_string();
        assert!(error.contains(word), "{toml}: {error}");
    }
}

#[test]
fn identity_differs_where_angles_do() -> Result<()> {
    let id = |toml: &str| spec(toml).resolve(1e4).and_then(|r| r.identity(64, 2048));
    let plain = id("")?;
    assert_eq!(plain, id("base = 10000.0")?);
    for other in [
        "base = 1e6",
        "scaling = 'ntk'\nfactor = 4",
        "scaling = 'linear'\nfactor = 4",
    ] {
        assert_ne!(plain, id(other)?);
    }
    Ok(())
}

#[test]
fn config_json_carries_every_method() -> Result<()> {
    for toml in [
        "base = 5e5",
        "scaling = 'linear'\nfactor = 4",
        "scaling = 'dynamic'\nfactor = 2\noriginal_context = 512",
        "scaling = 'yarn'\nfactor = 4\noriginal_context = 512\ntruncate = false",
        "scaling = 'llama3'\nfactor = 8\noriginal_context = 512\nlow_freq_factor = 1\nhigh_freq_factor = 4",
        "scaling = 'longrope'\noriginal_context = 512\nshort_factor = [1, 2]\nlong_factor = [3, 4]\nattention_factor = 1.1",
    ] {
        let rope = spec(toml).resolve(1e4)?;
        let mut config = Json::new();
        config.insert("head_dim".into(), 4.into());
        rope.write_config(&mut config);
        // What ModelConfig::set_rope makes of a context of 2048.
        let context = if toml.contains("dynamic") { 512 } else { 2048 };
        assert_eq!(
            Rope::from_config(&Value::Object(config), context)?,
            rope,
            "{toml}"
        );
    }
    // What has no name there has the same frequencies.
    for toml in [
        "scaling = 'ntk'\nfactor = 4",
        "scaling = 'by_parts'\nfactor = 4\noriginal_context = 512",
    ] {
        let rope = spec(toml).resolve(1e4)?;
        let mut config = Json::new();
        config.insert("head_dim".into(), 64.into());
        rope.write_config(&mut config);
        let read = Rope::from_config(&Value::Object(config), 2048)?;
        for (a, b) in read.inv_freq(64, 9)?.iter().zip(rope.inv_freq(64, 9)?) {
            assert!((a / b - 1.0).abs() < 1e-6, "{toml}");
        }
        assert_eq!(read.scale(), rope.scale());
    }
    Ok(())
}

#[test]
fn what_would_do_nothing_or_the_opposite_is_refused() {
    let lists = "original_context = 512\nshort_factor = [1, 2]\nlong_factor = [3, 4]";
    for (toml, said) in [
        (
            "scaling = 'yarn'\nfactor = 4\noriginal_context = 512\nbeta_fast = 1\nbeta_slow = 32"
                .to_string(),
            "beta_fast = 1 must be above beta_slow = 32",
        ),
        (
            format!("scaling = 'longrope'\n{lists}"),
            "needs `factor` or `attention_factor`, which is missing",
        ),
        (
            "scaling = 'linear'\nfactor = 0.5".to_string(),
            "factor = 0.5 is out of range; it must be at least 1",
        ),
    ] {
        let error = spec(&toml).resolve(1e4).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
