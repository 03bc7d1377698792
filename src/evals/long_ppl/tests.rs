use super::super::*;
use super::*;
use crate::checkpoint::BaseSpec;
use crate::evals::testing::tokens;

fn spec() -> LongPplSpec {
    toml::from_str(
        "name = 'keys'\nsources = [{ name = 'x', paths = ['a.txt'] }]\ncontext = 100\ndocuments = 2\n\
         short_context = 16\nstep = 10",
    )
    .unwrap()
}

fn task(judge: Option<Judge>) -> LongPpl {
    let mut task = LongPpl::without_judge(&spec(), Rc::new(tokens()));
    task.judge = judge;
    task
}

/// The code's loops, written down literally, over a made-up loss that depends on how much of the text is seen.
fn naive(ids: &[u32], score: &mut Scorer) -> Vec<usize> {
    let (trunc_len, mut sliding_window, max_len) = (16, 10, ids.len());
    let (alpha, beta) = (2.0, -2.0);
    let full: Vec<f32> = score(ids, 1).unwrap().iter().map(|x| -x).collect();
    let mut keys = Vec::new();
    let mut start = 0;
    while start < max_len - trunc_len {
        if start + trunc_len + sliding_window > max_len {
            sliding_window = max_len - start - trunc_len;
        }
        let window = &ids[start..start + trunc_len + sliding_window];
        let short: Vec<f32> = score(window, 1).unwrap().iter().map(|x| -x).collect();
        for i in 0..sliding_window {
            let (full, short) = (full[start + trunc_len - 1 + i], short[trunc_len - 1 + i]);
            if short - full > alpha && full < -beta {
                keys.push(start + trunc_len + i);
            }
        }
        start += 10;
    }
    keys
}

fn made_up(ids: &[u32], first: usize) -> Result<Vec<f32>, Error> {
    // A token costs less the more is before it, and some never cost little.
    let cost = |i: usize| 5.0 - 0.06 * i as f32 + (ids[i] % 3) as f32;
    Ok((first..ids.len()).map(|i| -cost(i)).collect())
}

#[test]
fn key_tokens_are_those_of_the_papers_code() {
    let task = task(None);
    for n in [17, 26, 27, 100] {
        let ids: Vec<u32> = (0..n).map(|i| i * 7 % 50).collect();
        let gains = task.gains(&ids, &mut made_up).unwrap();
        assert_eq!(gains.first().map(|g| g.0), Some(16));
        let indices: Vec<usize> = gains.iter().map(|g| g.0).collect();
        assert_eq!(indices, (16..n as usize).collect::<Vec<_>>());
        let keys: Vec<usize> = gains
            .into_iter()
            .filter(|&(_, gain, long)| gain > 2.0 && long > -2.0)
            .map(|g| g.0)
            .collect();
        assert_eq!(keys, naive(&ids, &mut made_up));
        assert_eq!(keys.is_empty(), n < 100);
    }
    assert!(task.gains(&[1; 16], &mut made_up).unwrap().is_empty());
}

#[test]
fn another_tokenizer_counts_what_lies_within() {
    let stretches = merged([(4, 6), (6, 9), (12, 14), (14, 14)].into_iter());
    assert_eq!(stretches, [(4, 9), (12, 14)]);
    // 3-5 and 8-10 hang over; 12-14 is cut in two.
    let spans = [
        (0, 3),
        (3, 5),
        (5, 8),
        (8, 10),
        (10, 12),
        (12, 13),
        (13, 14),
        (14, 20),
    ];
    assert_eq!(inside(&spans, &stretches), [2, 5, 6]);
    // The first token has no score.
    assert_eq!(inside(&[(4, 5), (5, 9)], &stretches), [1]);
    assert!(inside(&spans, &[]).is_empty());
}

#[test]
fn without_a_judge_the_task_is_left_out() {
    let spec = spec();
    assert!(spec.problem().is_none() && spec.scores().is_empty());
    let task = spec.prepare(Rc::new(tokens())).unwrap();
    assert!(task.items().is_empty() && task.chunks().is_empty());
    assert_eq!(task.estimate(), Estimate::default());
}

/// A judge in a folder, which is the small base of the program's tests with weights.
fn judge(folder: &std::path::Path) -> String {
    use crate::model::{Decoder, Init, Method};
    let small = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small/base");
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(small.join(file), folder.join(file)).unwrap();
    }
    let path = folder.display().to_string();
    let base = BaseSpec::of_path(&path);
    let init = Init {
        seed: 0,
        method: Method::Random,
    };
    let model = Decoder::init(&Env::cpu(), &base.config().unwrap(), init).unwrap();
    crate::checkpoint::save(folder, &model, &base.tokenizer().unwrap()).unwrap();
    path
}

#[test]
fn a_judge_of_another_tokenizer_names_key_tokens_and_the_model_is_scored_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = judge(folder.path());
    let env = Env::cpu();
    let model = crate::evals::testing::decoder(&env);
    let subject = Subject {
        env: &env,
        model: &model,
    };
    let mut spec = spec();
    spec.context = 60;
    spec.short_context = 8;
    spec.step = 8;
    // A judge with random weights gains nothing by much: any gain makes a key token.
    (spec.alpha, spec.beta) = (0.0, -20.0);
    let document = |i: usize| Document {
        id: format!("doc {i}"),
        text: format!("The sky of day {i} is blue, and the sun is yellow. ").repeat(60),
    };
    let documents: Vec<Document> = (0..3).map(document).collect();
    let open = || Judge::open("keys", &path).unwrap();
    let task = LongPpl::new(&spec, Rc::new(tokens()), open(), documents.clone()).unwrap();
    let records = task.run(&subject, &[0, 1]).unwrap();
    for (i, record) in records.iter().enumerate() {
        let keys: Vec<usize> = record
            .expected
            .split(' ')
            .map(|k| k.parse().unwrap())
            .collect();
        assert!(keys.len() > 3 && keys.is_sorted(), "{keys:?}");
        assert_eq!(record.prompt.len(), 60);
        let all = generate::log_probs(&env, &model, &record.prompt).unwrap();
        let nats: f64 = keys.iter().map(|&k| -f64::from(all[k - 1])).sum();
        assert!((record.metrics["nats_per_token"] * record.weight - nats).abs() < 1e-9 * nats);
        assert_eq!(record.weight, keys.len() as f64);
        assert_eq!(&task.run(&subject, &[i]).unwrap()[0], record);
        let text = record.protocol.to_string();
        assert!(
            text.starts_with("long_ppl short=8 step=8 alpha=0 beta=-20 judge="),
            "{text}"
        );
        let read: Record = serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap();
        assert_eq!(&read, record);
    }
    // No key token: a record without a score.
    spec.alpha = 1e9;
    let none = LongPpl::new(&spec, Rc::new(tokens()), open(), documents.clone()).unwrap();
    let record = none.run(&subject, &[0]).unwrap().remove(0);
    assert!(record.metrics.is_empty() && record.weight == 0.0);
    assert!(crate::evals::scores(&[record]).is_empty());
    // What is no longer for the judge than the short context has no key token, and is left out.
    let short = &task.documents[0];
    spec.short_context = short.judge.ids.len();
    let alone = |d: &&Document| d.id == short.id;
    let alone = documents.iter().filter(alone).cloned().collect();
    let error = LongPpl::new(&spec, Rc::new(tokens()), open(), alone);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("lower `short_context`"), "{error}");
    // The judge must have been trained for as much.
    spec.context = 400;
    let error = LongPpl::new(&spec, Rc::new(tokens()), open(), documents)
        .err()
        .unwrap();
    assert!(error.to_string().contains("was trained for"), "{error}");
    let error = Judge::open("keys", "nowhere").err().unwrap().to_string();
    assert!(error.starts_with("task \"keys\": judge: "), "{error}");
}
