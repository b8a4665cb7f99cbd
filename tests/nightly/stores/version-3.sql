-- A store of version 3, printed by make_store.py.
BEGIN TRANSACTION;
CREATE TABLE acknowledged (
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, metric TEXT NOT NULL, against TEXT NOT NULL,
  night INTEGER NOT NULL REFERENCES night(id), ratio REAL NOT NULL, note TEXT NOT NULL,
  made TEXT NOT NULL, ended TEXT
) STRICT
;
CREATE TABLE baseline (
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, key TEXT NOT NULL, pinned TEXT NOT NULL, nights TEXT NOT NULL,
  note TEXT NOT NULL, replaced TEXT
) STRICT;
INSERT INTO "baseline" VALUES(1,'p','c','','local','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','2026-11-26T06:31:27Z','[1, 2]','the first two',NULL);
CREATE TABLE baseline_run (
  baseline INTEGER NOT NULL REFERENCES baseline(id), run INTEGER NOT NULL REFERENCES run(id),
  PRIMARY KEY (baseline, run)
) STRICT, WITHOUT ROWID;
INSERT INTO "baseline_run" VALUES(1,1);
INSERT INTO "baseline_run" VALUES(1,2);
INSERT INTO "baseline_run" VALUES(1,3);
INSERT INTO "baseline_run" VALUES(1,4);
INSERT INTO "baseline_run" VALUES(1,5);
INSERT INTO "baseline_run" VALUES(1,6);
INSERT INTO "baseline_run" VALUES(1,7);
INSERT INTO "baseline_run" VALUES(1,8);
INSERT INTO "baseline_run" VALUES(1,9);
INSERT INTO "baseline_run" VALUES(1,10);
CREATE TABLE bins (
  run INTEGER NOT NULL REFERENCES run(id), direction TEXT NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (run, direction)
) STRICT, WITHOUT ROWID;
INSERT INTO "bins" VALUES(1,'read',X'789C8B8E36353030D05130348C8D050012E102E4');
INSERT INTO "bins" VALUES(2,'read',X'789C8B8E36353030D05130348A8D050012E402E5');
INSERT INTO "bins" VALUES(3,'read',X'789C8B8E36353030D05130348E8D050012E702E6');
INSERT INTO "bins" VALUES(4,'read',X'789C8B8E36353030D0513034898D050012EA02E7');
INSERT INTO "bins" VALUES(5,'read',X'789C8B8E36353030D05130348D8D050012ED02E8');
INSERT INTO "bins" VALUES(6,'read',X'789C8B8E36353030D05130348C8D050012E102E4');
INSERT INTO "bins" VALUES(7,'read',X'789C8B8E36353030D05130348A8D050012E402E5');
INSERT INTO "bins" VALUES(8,'read',X'789C8B8E36353030D05130348E8D050012E702E6');
INSERT INTO "bins" VALUES(9,'read',X'789C8B8E36353030D0513034898D050012EA02E7');
INSERT INTO "bins" VALUES(10,'read',X'789C8B8E36353030D05130348D8D050012ED02E8');
INSERT INTO "bins" VALUES(11,'read',X'789C8B8E36353030D05130348C8D050012E102E4');
INSERT INTO "bins" VALUES(12,'read',X'789C8B8E36353030D05130348A8D050012E402E5');
INSERT INTO "bins" VALUES(13,'read',X'789C8B8E36353030D05130348E8D050012E702E6');
INSERT INTO "bins" VALUES(14,'read',X'789C8B8E36353030D0513034898D050012EA02E7');
INSERT INTO "bins" VALUES(15,'read',X'789C8B8E36353030D05130348D8D050012ED02E8');
INSERT INTO "bins" VALUES(16,'read',X'789C8B8E36353030D05130348C8D050012E102E4');
INSERT INTO "bins" VALUES(17,'read',X'789C8B8E36353030D05130348A8D050012E402E5');
CREATE TABLE decision (
  night INTEGER NOT NULL REFERENCES night(id), test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, metric TEXT NOT NULL, state TEXT NOT NULL, against TEXT NOT NULL,
  document TEXT NOT NULL, PRIMARY KEY (night, test, side, host, metric, against)
) STRICT, WITHOUT ROWID;
INSERT INTO "decision" VALUES(3,'c','','local','read_iops','confirmed','baseline','{"text": "slower", "threshold": 0.02, "ratio": 0.8, "change_from": null, "baseline": 1}');
CREATE TABLE fingerprint (hash TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
INSERT INTO "fingerprint" VALUES('81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','{"CPU": "a processor", "drive": "a drive"}');
INSERT INTO "fingerprint" VALUES('a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"CPU microcode": "0x10", "kernel": "6.12", "module srcversion": "ABC"}');
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "meta" VALUES('uuid','00b6bcb3-7155-4c6f-a1cd-3f8d3f57595d');
CREATE TABLE metric (
  run INTEGER NOT NULL REFERENCES run(id), name TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "metric" VALUES(1,'read_iops',1001.0);
INSERT INTO "metric" VALUES(2,'read_iops',1002.0);
INSERT INTO "metric" VALUES(3,'read_iops',1003.0);
INSERT INTO "metric" VALUES(4,'read_iops',1004.0);
INSERT INTO "metric" VALUES(5,'read_iops',1005.0);
INSERT INTO "metric" VALUES(6,'read_iops',1011.0);
INSERT INTO "metric" VALUES(7,'read_iops',1012.0);
INSERT INTO "metric" VALUES(8,'read_iops',1013.0);
INSERT INTO "metric" VALUES(9,'read_iops',1014.0);
INSERT INTO "metric" VALUES(10,'read_iops',1015.0);
INSERT INTO "metric" VALUES(11,'read_iops',801.0);
INSERT INTO "metric" VALUES(12,'read_iops',802.0);
INSERT INTO "metric" VALUES(13,'read_iops',803.0);
INSERT INTO "metric" VALUES(14,'read_iops',804.0);
INSERT INTO "metric" VALUES(15,'read_iops',805.0);
INSERT INTO "metric" VALUES(16,'read_iops',901.0);
INSERT INTO "metric" VALUES(17,'read_iops',902.0);
CREATE TABLE night (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, plan TEXT NOT NULL, plan_text TEXT NOT NULL,
  plan_hash TEXT NOT NULL, seed INTEGER NOT NULL, label TEXT NOT NULL, started TEXT NOT NULL,
  finished TEXT, status TEXT, verdict TEXT
) STRICT;
INSERT INTO "night" VALUES(1,'night','p','version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
','hash',1,'commit 1000','2026-11-01T01:00:00Z','2026-11-26T06:31:27Z','measured','');
INSERT INTO "night" VALUES(2,'night','p','version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
','hash',1,'commit 1010','2026-11-02T01:00:00Z','2026-11-26T06:31:27Z','measured','');
INSERT INTO "night" VALUES(3,'night','p','version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
','hash',1,'commit 800','2026-11-03T01:00:00Z','2026-11-26T06:31:27Z','fail','1 of 2 requirements failed');
INSERT INTO "night" VALUES(4,'night','p','version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
','hash',1,'commit 900','2026-11-04T01:00:00Z',NULL,NULL,NULL);
CREATE TABLE run (
  id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES night(id), phase INTEGER NOT NULL,
  position INTEGER NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL, host TEXT NOT NULL,
  repeat INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  started TEXT, seconds REAL, status TEXT, reasons TEXT, key TEXT REFERENCES fingerprint(hash),
  subject TEXT REFERENCES fingerprint(hash), conditions TEXT, outcome TEXT, files TEXT,
  job TEXT REFERENCES fingerprint(hash),
  UNIQUE (night, phase, position)
) STRICT;
INSERT INTO "run" VALUES(1,1,0,1,'c','','local',1,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0001/run-0-0001.fio.json"}',NULL);
INSERT INTO "run" VALUES(2,1,0,2,'c','','local',2,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0001/run-0-0002.fio.json"}',NULL);
INSERT INTO "run" VALUES(3,1,0,3,'c','','local',3,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0001/run-0-0003.fio.json"}',NULL);
INSERT INTO "run" VALUES(4,1,0,4,'c','','local',4,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0001/run-0-0004.fio.json"}',NULL);
INSERT INTO "run" VALUES(5,1,0,5,'c','','local',5,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0001/run-0-0005.fio.json"}',NULL);
INSERT INTO "run" VALUES(6,2,0,1,'c','','local',1,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0002/run-0-0001.fio.json"}',NULL);
INSERT INTO "run" VALUES(7,2,0,2,'c','','local',2,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0002/run-0-0002.fio.json"}',NULL);
INSERT INTO "run" VALUES(8,2,0,3,'c','','local',3,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0002/run-0-0003.fio.json"}',NULL);
INSERT INTO "run" VALUES(9,2,0,4,'c','','local',4,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0002/run-0-0004.fio.json"}',NULL);
INSERT INTO "run" VALUES(10,2,0,5,'c','','local',5,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0002/run-0-0005.fio.json"}',NULL);
INSERT INTO "run" VALUES(11,3,0,1,'c','','local',1,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0003/run-0-0001.fio.json"}',NULL);
INSERT INTO "run" VALUES(12,3,0,2,'c','','local',2,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0003/run-0-0002.fio.json"}',NULL);
INSERT INTO "run" VALUES(13,3,0,3,'c','','local',3,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0003/run-0-0003.fio.json"}',NULL);
INSERT INTO "run" VALUES(14,3,0,4,'c','','local',4,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0003/run-0-0004.fio.json"}',NULL);
INSERT INTO "run" VALUES(15,3,0,5,'c','','local',5,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0003/run-0-0005.fio.json"}',NULL);
INSERT INTO "run" VALUES(16,4,0,1,'c','','local',1,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0004/run-0-0001.fio.json"}',NULL);
INSERT INTO "run" VALUES(17,4,0,2,'c','','local',2,'done',1,'2026-11-26T06:31:27Z',1.0,'valid','[]','81bc2e8fc6b155ff8903a18074091f2940d2d993beb2e37e58cf0abe56063d10','a3a707b5ac9d47ccf5bead30fef1a2f60b2202477b9ab2e7f554c2fd62fbdf31','{"boot": "b"}','{"datapath": "premapped", "exporter": "", "proven": true, "proof": "", "block_bytes": null, "depth": null, "version": "", "memory": "none", "route": "none", "load": "", "cpu_percent": null, "commands": null}','{"fio": "night-0004/run-0-0002.fio.json"}',NULL);
INSERT INTO "run" VALUES(18,4,0,3,'c','','local',3,'planned',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(19,4,0,4,'c','','local',4,'planned',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(20,4,0,5,'c','','local',5,'planned',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX run_series ON run (test, side, host, night);
COMMIT;
PRAGMA user_version = 3;
