//! Symlinks and other traps where outputs are saved: nothing is written through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::farm::{FakeJob, Farm};
use crate::support::pictures::names;

const OUTSIDE: &str = "not to be touched";

/// A farm with a job of a picture and, in a folder, another file.
fn rendered() -> (Farm, u64) {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("[extras]\n\"deep/down/a.bin\" = 10", 1));
    farm.wait_for_state(job, "completed");
    (farm, job)
}

fn is_untouched(outside: &Path) {
    assert_eq!(names(outside), ["kept"]);
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), OUTSIDE);
}

#[test]
fn links_where_outputs_are_saved_lead_nobody_out_of_the_folder() {
    let (farm, job) = rendered();
    let outside = farm.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), OUTSIDE).unwrap();
    let fetch = |folder: &Path| {
        farm.grange(&["fetch", &job.to_string(), "--output", &folder.display().to_string()])
    };
    let good = farm.home().join("good");
    fetch(&good).well();
    let (picture, deep) = (fs::read(good.join("0001.png")).unwrap(), vec![1; 10]);

    // In the place of a file: it is replaced, wherever it leads.
    for (number, target) in
        [outside.join("kept"), outside.join("new"), "../outside/kept".into()].iter().enumerate()
    {
        let folder = farm.home().join(format!("file-{number}"));
        fs::create_dir(&folder).unwrap();
        symlink(target, folder.join("0001.png")).unwrap();
        symlink(target, folder.join("0001.png.grange-part")).unwrap();
        fetch(&folder).well();
        assert!(folder.join("0001.png").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(folder.join("0001.png")).unwrap(), picture);
        assert_eq!(names(&folder), ["0001.png", "deep/down/a.bin"]);
        is_untouched(&outside);
    }

    // In the place of a folder: the file is not saved, and a sentence says why.
    for (number, link) in ["deep", "deep/down"].into_iter().enumerate() {
        let folder = farm.home().join(format!("folder-{number}"));
        let link = folder.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        let sentence = format!(
            "{} is a link that leads out of {}: remove the link, or save to another folder",
            link.display(),
            folder.display()
        );
        fetch(&folder).fails(1, &sentence);
        is_untouched(&outside);
    }

    // Links that stay within the folder are the user's business, and so is what the folder is.
    let folder = farm.home().join("within");
    fs::create_dir_all(folder.join("elsewhere")).unwrap();
    symlink("elsewhere", folder.join("deep")).unwrap();
    symlink("within", farm.home().join("itself")).unwrap();
    fetch(&farm.home().join("itself")).well();
    assert_eq!(fs::read(folder.join("elsewhere/down/a.bin")).unwrap(), deep);

    // A pipe, which nobody writes to, is no file that was there already.
    let folder = farm.home().join("pipe");
    fs::create_dir(&folder).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.join("0001.png")).status();
    assert!(made.unwrap().success());
    fetch(&folder).well();
    assert_eq!(fs::read(folder.join("0001.png")).unwrap(), picture);
}
