import { processorSeconds, residentMib } from '../bench/process-usage';

test('memory and processor time of a process are read from /proc', async () => {
  const { user, system } = process.cpuUsage();
  expect(Math.abs((await processorSeconds(process.pid)) - (user + system) / 1e6)).toBeLessThan(1);
  const mib = process.memoryUsage.rss() / 2 ** 20;
  expect((await residentMib(process.pid)) / mib).toBeCloseTo(1, 0);
});
