//! Reading studies, right and wrong ones.
use super::super::testing::Folder;

#[test]
fn the_trials_are_the_base_and_every_combination_times_every_seed() {
    let folder = Folder::new();
    folder.append(
        "study.toml",
        "\n[[axis]]\nkey = 'optimizer.lr'\nvalues = [1e-3, 2e-5]\n",
    );
    let study = folder.study(false).unwrap();
    let names: Vec<&str> = study.trials.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "base",
            "rope=plain,lr=0.001,seed=0",
            "rope=plain,lr=0.001,seed=1",
            "rope=plain,lr=2e-5,seed=0",
            "rope=plain,lr=2e-5,seed=1",
            "rope=yarn-4,lr=0.001,seed=0",
            "rope=yarn-4,lr=0.001,seed=1",
            "rope=yarn-4,lr=2e-5,seed=0",
            "rope=yarn-4,lr=2e-5,seed=1",
        ]
    );
    let base = &study.trials[0];
    assert!(base.is_base() && base.spec.optimizer.is_none() && base.spec.seed.is_none());
    let last = &study.trials[8];
    assert_eq!((last.spec.tokens(), last.spec.seed), (5120, Some(1)));
    assert_eq!(last.spec.optimizer.as_ref().unwrap().lr, 2e-5);
    let rope = last.spec.stage[0].rope.as_ref().unwrap();
    assert_eq!(rope.scaling.as_deref(), Some("yarn"));
    assert_eq!(last.arm, "rope=yarn-4,lr=2e-5");
    let mut keys: Vec<&str> = study.trials.iter().map(|t| t.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 9);
    assert!(study.contents.contains_key("data prose"));
}

#[test]
fn a_reduced_study_has_one_seed_and_a_tenth_of_the_tokens() {
    let folder = Folder::new();
    let (full, reduced) = (folder.study(false).unwrap(), folder.study(true).unwrap());
    assert_eq!(
        (full.name(), reduced.name()),
        ("small".into(), "small-reduced".into())
    );
    let names: Vec<&str> = reduced.trials.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["base", "rope=plain,seed=0", "rope=yarn-4,seed=0"]);
    assert_eq!(reduced.trials[1].spec.tokens(), 512);
    let keys: Vec<&str> = full.trials.iter().map(|t| t.key.as_str()).collect();
    assert!(
        reduced
            .trials
            .iter()
            .all(|t| !keys.contains(&t.key.as_str()))
    );
}

#[test]
fn bases_of_an_axis_are_scored_each() {
    let folder = Folder::new();
    folder.append(
        "study.toml",
        "\n[[axis]]\nkey = 'base.init.seed'\nvalues = [0, 3]\n",
    );
    let study = folder.study(false).unwrap();
    let bases: Vec<&str> = study
        .trials
        .iter()
        .filter(|t| t.is_base())
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(bases, ["base,base.init.seed=0", "base,base.init.seed=3"]);
    assert_eq!(study.trials.len(), 2 + 8);
}

#[test]
fn a_wrong_study_gives_one_line_that_says_where() {
    for (from, to, want) in [
        (
            "context = 64",
            "contxt = 64",
            "study.toml:22: unknown key `contxt` in [[stage]]; did you mean `context`?",
        ),
        (
            "\ncontext = 64",
            "\ncontext = 64\nlong = { prose = { over = 9, share = 1.5 } }",
            "study.toml:23: stage.0.long.prose: over = 9, share = 1.5: `over` is a length in tokens, above 0, and \
             `share` between 0 and 1",
        ),
        (
            "\ncontext = 64",
            "\ncontext = 64\nlong = { prosa = { over = 9, share = 0.5 } }",
            "study.toml:23: stage.0.long: \"prosa\" is no data source",
        ),
        (
            "\ncontext = 64",
            "\ncontext = 64\nmix_to = { prosa = 1 }",
            "study.toml:23: stage.0.mix_to: \"prosa\" is no data source; there are prose, lookup",
        ),
        (
            "lr = 1e-3",
            "lr = 1e-3\nweight_dekay = 0.1",
            "study.toml:28: unknown key `weight_dekay` in [optimizer]; did you mean `weight_decay`?",
        ),
        (
            "seed = 0, min_words",
            "sed = 0, min_words",
            "study.toml:15: unknown key `sed` in `data.1.generator`; did you mean `seed`?",
        ),
        (
            "seeds = [0, 1]",
            "seeds = [0, 1]\nseedz = 1",
            "study.toml:4: unknown key `seedz` in the study; did you mean `seeds`?",
        ),
        (
            "factor = 4",
            "factr = 4",
            "study.toml:33: unknown key `factr` in `axis.0.values.1`; did you mean `factor`?",
        ),
        (
            "stage.0.rope",
            "stage.0.rop",
            "study.toml:32: axis key `stage.0.rop` is unknown; did you mean `stage.0.rope`?",
        ),
        (
            "stage.0.rope",
            "optimiser.lr",
            "study.toml:32: axis key `optimiser.lr` is unknown; did you mean `optimizer.lr`?",
        ),
        (
            "stage.0.rope",
            "stage.3.rope",
            "study.toml:32: axis `stage.3.rope`: `stage` has 1 elements, numbered from 0, and no `3`",
        ),
        (
            "lr = 1e-3\n",
            "",
            "study.toml:26: key `lr` is missing in [optimizer]",
        ),
        (
            "\"cosine\"",
            "\"cosin\"",
            "study.toml:29: unknown value \"cosin\"; did you mean `cosine`?",
        ),
        (
            "seeds = [0, 1]",
            "seeds = [1, 1]",
            "study.toml:3: seeds: name at least one seed, and none twice",
        ),
        (
            "name = \"small\"",
            "name = \"a/b\"",
            "study.toml:2: name = \"a/b\": it names a folder",
        ),
        (
            "prose = 3",
            "prose = -3",
            "mix: prose = -3: a weight must be 0 or more",
        ),
        (
            "prose = 3\nlookup = 1",
            "prose = 0\nlookup = 0",
            "study.toml:17: mix: all weights are zero",
        ),
        (
            "prose = 3",
            "prosa = 3",
            "\"prosa\" is no data source; there are prose, lookup",
        ),
        ("prose.jsonl", "*.md", "matches no file"),
        (
            "documents = 20",
            "documents = 0",
            "study.toml:13: data.1: data source \"lookup\": an empty",
        ),
        (
            ", factor = 4",
            "",
            "study.toml:33: stage.0.rope: scaling = \"yarn\" needs `factor`, which is missing (in arm rope=yarn-4)",
        ),
        (
            "batch_tokens = 128",
            "batch_tokens = 100",
            "study.toml:24: stage.0.batch_tokens: 100 is no multiple of the context 64",
        ),
        (
            "lr = 1e-3",
            "lr = -1.0",
            "study.toml:27: optimizer.lr = -1 is out of range",
        ),
        (
            "tokens = 5120",
            "tokens = \"many\"",
            "study.toml:23: \"many\" is no number of tokens",
        ),
        (
            "base\"",
            "bass\"",
            "study.toml:6: base.path: checkpoint bass/config.json",
        ),
        (
            "suite.toml",
            "sweet.toml",
            "study.toml:37: evals.suite: sweet.toml: No such file",
        ),
        ("values = [{}", "values = [{}, {}", "3 values"),
        ("\"yarn-4\"]", "\"yarn-4\"", "study.toml:3"),
    ] {
        let folder = Folder::new();
        folder.replace("study.toml", from, to);
        let error = folder.error();
        assert!(
            error.contains(want) && !error.contains('\n'),
            "{from} -> {to}: {error}"
        );
    }
}

#[test]
fn wrong_weights_are_found_by_their_header() {
    let folder = Folder::new();
    folder.replace("study.toml", "init = { seed = 0 }\n", "");
    assert!(
        folder
            .error()
            .contains("study.toml:6: base.path: checkpoint base: has neither model.safetensors")
    );
    std::fs::write(folder.path().join("base/model.safetensors"), [9; 20]).unwrap();
    assert!(
        folder.error().contains("damaged or cut off"),
        "{}",
        folder.error()
    );
}

#[test]
fn preparing_finds_what_only_tokens_can_tell() {
    let folder = Folder::new();
    let cache = folder.path().join("cache");
    let prepared = folder.study(false).unwrap().prepare(&cache, &|_| ());
    let (costs, _) = prepared.unwrap();
    assert_eq!((costs[0].train_tokens, costs[1].train_tokens), (0, 5120));
    assert!(costs[0].score_flops > 0.0 && costs[1].train_flops > costs[0].score_flops / 100.0);

    folder.replace(
        "study.toml",
        "\ncontext = 64",
        "\npacking = 'documents'\ncontext = 4096",
    );
    folder.replace("study.toml", "batch_tokens = 128\n", "");
    let error = folder
        .study(false)
        .unwrap()
        .prepare(&cache, &|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("study.toml:9: data.0: data source \"prose\": packing"),
        "{error}"
    );

    let folder = Folder::new();
    folder.replace("suite.toml", "192", "32");
    let error = folder
        .study(false)
        .unwrap()
        .prepare(&cache, &|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("study.toml:37: evals.suite: task \"passkey\": length 32"),
        "{error}"
    );
}
