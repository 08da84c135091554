//! Bad store input: one sentence that says what to do, its exit code, and not one byte changed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tests::{Cable, Ended, World, story, world::START_MAX};

/// A store whose root has certified one authority and, by `openssl ca`, one old certificate.
fn stocked(world: &World) -> Result<()> {
    world.found("ec:P-256")?;
    let csr = world.csr("old", "ec:P-256", "/CN=old.example.org")?;
    let folder = world.authority("root", "");
    let ca = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-batch"];
    let old = ["-startdate", "20200101000000Z", "-enddate", "20400101000000Z"];
    let (out, files) = (world.file("old.pem"), ["-in", &csr, "-out"]);
    world.tool("env", &[&ca[..], &old, &files, &[&out]].concat())?.done()?;
    // Taken in, and synced.
    world.signer(&["crl", "sign", "root"])?.done()?;
    world.signer(&["store", "rebuild"])?.done()?;
    world.signer(&["store", "check"])?.done()?;
    Ok(())
}

/// What is in every file of the store. SQLite's own log and what a running signer says of itself
/// are left out.
fn digest(world: &World) -> Result<String> {
    let script = world.write("digest.sh", DIGEST)?;
    let listed = world.tool("sh", &[&script, &world.file("signer")])?.done()?;
    Ok(listed.text())
}

const DIGEST: &str = "cd \"$1\" && find . -type f ! -name '*-wal' ! -name '*-shm' ! -path './run/*' \
                      -exec sha256sum {} + | LC_ALL=C sort -k 2";

/// The command ends with this code and this sentence, and changes nothing.
fn refuses(world: &World, words: &[&str], code: i32, sentence: &str) -> Result<Ended> {
    let before = digest(world)?;
    let ended = world.signer(words)?.with_code(code)?;
    let last = ended.stderr.lines().last().unwrap_or_default();
    ensure!(last == format!("signer: {sentence}"), "it said `{last}`, expected `{sentence}`");
    ensure!(digest(world)? == before, "the store was changed:\n{before}\n{}", digest(world)?);
    Ok(ended)
}

/// The check has exactly this finding, and changes nothing.
fn finds(world: &World, finding: &str) -> Result<()> {
    let sentence = "the store has 1 finding; see above";
    let ended = refuses(world, &["store", "check"], 3, sentence)?;
    let text = ended.text();
    ensure!(text.lines().any(|line| line == format!("- {finding}")), "{text}");
    Ok(())
}

/// Neither a start works nor anything at the console that would record or sign; each says why, and
/// changes nothing.
fn stops(world: &World, fault: &str) -> Result<()> {
    let link = world.frontend_link();
    let old = world.serial_of(&world.file("old.pem"))?;
    let other = ["authority", "create", "other", "--subject", "/CN=Other", "--key", "ec:P-256"];
    let sentence = format!("{fault}; restore it from the backup or run `signer store check`");
    for words in [
        &["run", "--link", &link][..],
        &["revoke", "--authority", "root", "--serial", &old],
        &["revoke", "--authority", "root", "--weak-keys"],
        &["crl", "sign", "root"],
        &[&other[..], &["--issued-by", "root"]].concat(),
    ] {
        refuses(world, words, 3, &sentence)?;
    }
    finds(world, &format!("{fault}; run `signer store rebuild`"))
}

fn index(world: &World) -> Result<(PathBuf, String)> {
    let path = PathBuf::from(world.authority("root", "index.txt"));
    let text = fs::read_to_string(&path)?;
    ensure!(text.lines().count() == 2, "{text}");
    Ok((path, text))
}

/// What a rebuild leaves is whole.
fn mended(world: &World) -> Result<()> {
    world.signer(&["store", "rebuild"])?.done()?;
    world.signer(&["store", "check"])?.done()?;
    Ok(())
}

#[test]
fn truncated_line_is_named_with_its_number() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let (path, whole) = index(world)?;
        let (first, second) = whole.split_once('\n').context("two lines")?;
        fs::write(&path, format!("{}\n{second}", &first[..10]))?;
        stops(
            world,
            &format!("{} line 1 is damaged: it has 2 fields where 6 belong", path.display()),
        )?;
        // The last line without its end is what a pulled plug leaves: the next start mends it.
        fs::write(&path, &whole[..whole.len() - 9])?;
        finds(
            world,
            "root: index.txt is behind the ledger; the next start writes it, or run `signer store \
             rebuild`",
        )?;
        mended(world)?;
        ensure!(fs::read_to_string(&path)? == whole);
        Ok(())
    });
}

#[test]
fn line_with_wrong_fields_is_named_with_its_number() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let (path, whole) = index(world)?;
        let path_text = path.display();
        for (bad, why) in [
            (whole.replacen("\tunknown", "", 1), "it has 5 fields where 6 belong"),
            (whole.replacen('V', "Q", 1), "`Q` is no status V, R or E"),
            (whole.replacen("\t\t", "\t\tZZ", 1), ""),
        ] {
            fs::write(&path, &bad)?;
            let serial = bad.lines().next().and_then(|line| line.split('\t').nth(3));
            let why = match why {
                "" => format!("`{}` is no serial number", serial.context("a serial")?),
                why => why.to_owned(),
            };
            stops(world, &format!("{path_text} line 1 is damaged: {why}"))?;
        }
        mended(world)
    });
}

#[test]
fn index_with_crlf_is_told_how_to_lose_it() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let (path, whole) = index(world)?;
        fs::write(&path, whole.replace('\n', "\r\n"))?;
        let why = "it ends with CR LF as a text of another system does; `sed -i 's/\\r$//' \
                   index.txt` takes that away";
        stops(world, &format!("{} line 1 is damaged: {why}", path.display()))?;
        let folder = world.authority("root", "");
        let sed = ["-C", &folder, "sed", "-i", "s/\\r$//", "index.txt"];
        world.tool("env", &sed)?.done()?;
        world.signer(&["store", "check"])?.done()?;
        Ok(())
    });
}

#[test]
fn missing_index_is_found_and_written_by_the_next_start() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let (path, whole) = index(world)?;
        fs::remove_file(&path)?;
        let advice = "the next start writes it, or run `signer store rebuild`";
        finds(world, &format!("root: index.txt is missing; {advice}"))?;
        world.start_signer()?;
        world.running_signer()?.wait_for("signer runs", START_MAX)?;
        world.stop()?;
        ensure!(fs::read_to_string(&path)? == whole);
        Ok(())
    });
}

#[test]
fn serial_file_that_is_empty_missing_or_behind_is_found_and_written_by_the_next_start() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let path = world.authority("root", "serial");
        let (_, index) = index(world)?;
        let used = index.lines().last().and_then(|line| line.split('\t').nth(3));
        let used = used.context("a serial")?;
        for (text, why) in [
            (Some(String::new()), "it is empty".to_owned()),
            (None, "it is missing or unreadable".to_owned()),
            (Some("01\n".into()), "`01` is no serial of this authority".to_owned()),
            (Some(format!("{used}\n")), format!("{used} is behind the serials in use")),
        ] {
            match &text {
                Some(text) => fs::write(&path, text)?,
                None => fs::remove_file(&path)?,
            }
            let advice = "the next start writes it, or run `signer store rebuild`";
            finds(world, &format!("root: the file serial cannot be used, {why}; {advice}"))?;
            let sentence = format!(
                "{path} is damaged: {why}; restore it from the backup or run `signer store check`"
            );
            let target = world.file("export");
            let words = ["store", "export", &target, "--authority", "root"];
            refuses(world, &words, 3, &sentence)?;
        }
        world.start_signer()?;
        world.running_signer()?.wait_for("the file serial is written again", START_MAX)?;
        world.running_signer()?.wait_for("signer runs", START_MAX)?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        Ok(())
    });
}

#[test]
fn second_signer_on_one_directory_is_told_to_wait_for_the_first() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        world.start_signer()?;
        world.running_signer()?.wait_for("signer runs", START_MAX)?;
        let (store, link) = (world.file("signer"), format!("unix:{}", world.file("other.sock")));
        let sentence = format!("another signer works on {store}; stop it first");
        refuses(world, &["run", "--link", &link], 4, &sentence)?;
        let sentence = format!("a signer works on {store}; stop it before rebuilding");
        refuses(world, &["store", "rebuild"], 4, &sentence)?;
        world.stop()?;
        Ok(())
    });
}

#[test]
fn ledger_of_a_later_version_is_left_to_the_program_that_wrote_it() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let path = world.path("signer/ledger.sqlite");
        let mut bytes = fs::read(&path)?;
        // SQLite's file format 1.3: the user version is the four octets at 60.
        let known = u32::from_be_bytes(bytes[60..64].try_into()?);
        bytes[60..64].copy_from_slice(&(known + 7).to_be_bytes());
        fs::write(&path, &bytes)?;
        let link = world.frontend_link();
        let sentence = format!(
            "{} has schema version {}, this program knows 1 to {known}; use the program that \
             wrote it",
            path.display(),
            known + 7
        );
        for words in [&["run", "--link", &link][..], &["store", "check"], &["status"]] {
            refuses(world, words, 4, &sentence)?;
        }
        Ok(())
    });
}

#[test]
fn rotten_copy_is_found_and_never_packed() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let (_, index) = index(world)?;
        let serial = index.lines().last().and_then(|line| line.split('\t').nth(3));
        let path = world.authority("root", &format!("newcerts/{}.pem", serial.context("serial")?));
        let good = fs::read_to_string(&path)?;
        let at = good.find("-----BEGIN").context("PEM")? + 100;
        let mut rotten = good.clone().into_bytes();
        rotten[at] = if rotten[at] == b'A' { b'B' } else { b'A' };
        fs::write(&path, &rotten)?;
        let name = Path::new(&path).file_name().and_then(|name| name.to_str()).context("a name")?;
        finds(
            world,
            &format!("root: newcerts/{name} is missing or differs; run `signer store rebuild`"),
        )?;
        let sentence = format!(
            "{path} is damaged: it does not hold the certificate that the ledger has under its \
             serial; restore it from the backup or run `signer store check`"
        );
        refuses(world, &["store", "pack", "root"], 3, &sentence)?;
        mended(world)
    });
}

#[test]
fn rotten_pack_is_found_by_one_flipped_bit_and_rebuild_brings_its_copies_back() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let packed = world.signer(&["store", "pack", "root"])?.done()?.text();
        ensure!(packed == "root: 1 copies packed, 1 packs written\n", "{packed}");
        world.signer(&["store", "check"])?.done()?;
        let path = world.authority("root", "newcerts/packs/000001.pack");
        let mut rotten = fs::read(&path)?;
        rotten[60] ^= 1;
        fs::write(&path, rotten)?;
        let advice = "run `signer store rebuild`";
        finds(world, &format!("{path} is damaged: its block 0 is broken; {advice}"))?;
        let sentence = format!(
            "{path} is damaged: its block 0 is broken; restore it from the backup or run `signer \
             store check`"
        );
        refuses(world, &["store", "pack", "root"], 3, &sentence)?;
        mended(world)?;
        let old = world.serial_of(&world.file("old.pem"))?;
        let found = world.signer_json(&["store", "find", &old])?;
        ensure!(found[0]["in_pack"] == false && found[0]["copy_fault"].is_null(), "{found}");
        Ok(())
    });
}

/// What commands say on a disk of their own, which `prepare` brings into its state: the last line
/// of each with its exit code. `$1` is the disk, with the store on it as `signer`.
fn on_a_bad_disk(world: &World, prepare: &str, commands: &[&str]) -> Result<Vec<String>> {
    let program = env::current_exe()?;
    let programs = program.ancestors().nth(2).context("the folder of the programs")?;
    let signer = programs.join("signer").display().to_string();
    let (disk, store) = (world.file("disk"), world.file("signer"));
    fs::create_dir(&disk)?;
    let digest = world.write("digest.sh", DIGEST)?;
    let commands: Vec<String> = commands
        .iter()
        .map(|words| {
            format!(
                "code=0; \"$signer\" --dir \"$disk/signer\" {words} 2>said >out || code=$?
                 echo \"$code $(tail -n 1 said)\"; sh \"$digest\" \"$disk/signer\" | cmp - before"
            )
        })
        .collect();
    let script = format!(
        "disk=$1 signer=$2 digest=$4
         mount -t tmpfs -o size=16m none \"$disk\"
         cp -a \"$3\" \"$disk/signer\"
         mkdir -p \"$disk/signer/authorities/root/newcerts/packs\"
         : >\"$disk/signer/authorities/root/packs.lock\"
         cd \"$5\"; {prepare}
         sh \"$digest\" \"$disk/signer\" >before
         {}",
        commands.join("\n")
    );
    let here = world.file("");
    let words = ["--map-root-user", "--mount", "sh", "-euc", &script, "sh", &disk, &signer];
    let words = [&words[..], &[&store, &digest, &here]].concat();
    let told = world.tool("unshare", &words)?.done()?.text();
    Ok(told.lines().map(str::to_owned).collect())
}

#[test]
fn full_disk_is_told_and_changes_nothing() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let old = world.serial_of(&world.file("old.pem"))?;
        let disk = world.file("disk");
        // SQLite's log finds a place, a pack with so large a text in a copy does not.
        let prepare = format!(
            "copy=$disk/signer/authorities/root/newcerts/{old}.pem
             {{ head -c 450000 /dev/urandom | base64; cat \"$copy\"; }} >large
             cat large >\"$copy\"
             dd if=/dev/zero of=\"$disk/filler\" bs=4096 2>/dev/null || true
             truncate -s -262144 \"$disk/filler\""
        );
        let told = on_a_bad_disk(world, &prepare, &["store pack root", "store check"])?;
        let expected = [
            format!(
                "3 signer: cannot write {disk}/signer/authorities/root/newcerts/packs/000001.pack: \
                 No space left on device (os error 28); see to that, then start again"
            ),
            "0 ".to_owned(),
        ];
        ensure!(told == expected, "{told:#?}");

        fs::remove_dir(&disk)?;
        let prepare = "dd if=/dev/zero of=\"$disk/filler\" bs=4096 2>/dev/null || true";
        let link = world.frontend_link();
        let revoke = format!("revoke --authority root --serial {old}");
        let run = format!("run --link {link}");
        let told = on_a_bad_disk(world, prepare, &[&revoke, &run, "store pack root"])?;
        let sentence =
            "3 signer: the ledger failed: disk I/O error; check the disk, then start again";
        ensure!(told == [sentence, sentence, sentence], "{told:#?}");
        Ok(())
    });
}

#[test]
fn read_only_directory_is_told_and_changes_nothing() {
    story(Cable::Unix, |world| {
        stocked(world)?;
        let run = format!("run --link {}", world.frontend_link());
        let prepare = "mount -o remount,ro \"$disk\"";
        let commands = [&run, "store pack root", "store check", "store rebuild"];
        let told = on_a_bad_disk(world, prepare, &commands)?;
        let lock = format!(
            "3 signer: cannot open {}/signer/lock: Read-only file system (os error 30); see to \
             that, then start again",
            world.file("disk")
        );
        let ledger = format!(
            "3 signer: cannot open {}/signer/ledger.sqlite: Read-only file system (os error 30); \
             see to that, then start again",
            world.file("disk")
        );
        ensure!(told == [&lock, &ledger, &ledger, &lock].map(String::as_str), "{told:#?}");
        Ok(())
    });
}
