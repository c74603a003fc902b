import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { devCertificate } from '../../lib/dev-certificate.js';

const directory = mkdtempSync(join(tmpdir(), 'valk-aio-certificate-'));

/** A key and a certificate for 127.0.0.1, made once for a test file. */
export const { key, cert } = await devCertificate({ directory });

rmSync(directory, { recursive: true });
